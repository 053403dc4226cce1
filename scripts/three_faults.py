"""Tries three faults of earlier versions as a user would meet them: threads that predict at once, float64 by default, moved weights.

    python scripts/three_faults.py

The script runs with earlier versions too. tests/situations.md shows its output before and after the faults were mended.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
from pathlib import Path

import numpy as np
import open_clip
import torch

import segp_ext
from segp_ext import config
from segp_ext.data import load_scenario

BURSTS, THREADS = 20, 4
MODEL = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 48, "head_width": 12, "layers": 2},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


def learn(tasks: list, model: segp_ext.clip.backbone.Backbone) -> segp_ext.SeGPCL:
    """Returns a learner that has learnt the tasks in few steps; these are enough to show the faults."""
    settings = config.MethodConfig()
    settings.training.epochs, settings.anchors.steps, settings.anchors.seeds_per_class = 4, 2, 5
    settings.training.optimizer, settings.training.learning_rate = "adamw", 1e-2
    learner = segp_ext.SeGPCL(model, settings)
    for task in tasks:
        learner.learn_task(task.train, task.class_names)
    return learner


def answers(learner: segp_ext.SeGPCL, images: list) -> list[list[tuple[str, float]]]:
    """Returns the three best (name, score rounded to 3 digits) of each image, to compare between learners."""
    return [[(guess.name, round(float(guess.score), 3)) for guess in row] for row in learner.predict(images, topk=3)]


def threads_at_once(tasks: list, images: list, folder: Path) -> str:
    """Lets four threads ask a learner that was just loaded, `BURSTS` times; says how often an answer differed."""
    learn(tasks, segp_ext.load_clip("glyph")).save(folder / "digits")
    expected = answers(segp_ext.SeGPCL.load(folder / "digits"), images)
    wrong = 0
    for _ in range(BURSTS):
        learner, found, start = segp_ext.SeGPCL.load(folder / "digits"), [], threading.Barrier(THREADS)

        def ask(learner=learner, found=found, start=start) -> None:
            start.wait()
            try:
                found.append(answers(learner, images))
            except Exception as error:
                found.append(error)

        asking = [threading.Thread(target=ask) for _ in range(THREADS)]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join()
        wrong += any(answer != expected for answer in found)
    return f"an answer differs in {wrong} of {BURSTS} bursts"


def float64_by_default(tasks: list, images: list, folder: Path) -> str:
    """Learns, saves and loads in a process where every new tensor is float64; says whether predictions stay the same."""
    torch.set_default_dtype(torch.float64)
    try:
        learner = learn(tasks, segp_ext.load_clip("glyph"))
        before = answers(learner, images)
        learner.save(folder / "double")
        after = answers(segp_ext.SeGPCL.load(folder / "double"), images)
    finally:
        torch.set_default_dtype(torch.float32)
    return "the loaded learner predicts the same" if before == after else "the loaded learner predicts otherwise"


def weights_that_moved(tasks: list, images: list, folder: Path) -> str:
    """Learns in a folder with a weights file, moves that folder, and loads the learner from another working directory.

    Says whether predictions stay the same.
    """
    (folder / "made-tiny.json").write_text(json.dumps(MODEL))
    open_clip.add_model_config(folder / "made-tiny.json")
    torch.manual_seed(0)
    there, here = folder / "there", folder / "here"
    there.mkdir()
    torch.save(open_clip.create_model("made-tiny", pretrained=None).state_dict(), there / "weights.pt")
    back = Path.cwd()
    os.chdir(there)
    try:
        learner = learn(tasks, segp_ext.load_clip("made-tiny", pretrained="weights.pt"))
        before = answers(learner, images)
        learner.save("animals")
        there.rename(here)
        os.chdir(folder)
        after = answers(segp_ext.SeGPCL.load(here / "animals"), images)
    finally:
        os.chdir(back)
    return "the loaded learner predicts the same" if before == after else "the loaded learner predicts otherwise"


def main() -> None:
    scenario = load_scenario(config.DataConfig(name="digits", classes_per_task=2, max_images_per_class=20))
    tasks = scenario.tasks[:2]
    images = [np.array(tasks[0].test[i][0]) for i in range(8)]
    images = [image if image.ndim == 3 else np.stack([image] * 3) for image in images]
    for fault in (threads_at_once, float64_by_default, weights_that_moved):
        with tempfile.TemporaryDirectory() as folder:
            try:
                said = fault(tasks, images, Path(folder))
            except Exception as error:
                said = f"{type(error).__name__}: {str(error).splitlines()[0][:160]}"
        print(f"{fault.__name__.replace('_', ' ')}: {said}", flush=True)


if __name__ == "__main__":
    main()
