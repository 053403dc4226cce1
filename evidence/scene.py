"""Writes the natural-image scene: classes with known names, under a look that differs from task to task.

    python -m evidence.scene --data DIR --names FILE --model MODEL --seed 1 --out SCENES/1

The seed draws classes and the order of the looks. Classes come from those that the model knows best: by its zero-shot accuracy on the
scene's training images before any look changes them. `evidence.pretrain` notes that accuracy; no test image takes part.

A task is a few classes of Tiny-ImageNet, in photographs that `evidence.pretrain` has not seen. One look changes all images of a task:
colours inverted in a checked pattern, noise, a false-colour scale ... So there is something to preserve, as the text tower knows the names.
There is something to learn, as every look is new to the vision tower. And there is something to forget, as the next task needs other
features.

The command writes {train,test}/<class>/ in three folders:

- OUT/scene: the scene, with order.txt, the list of classes in the order of learning
- OUT/clean: the same images without any look
- OUT/untouched: the test images of the classes that are in no task
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from evidence.looks import LOOKS, known_classes
from evidence.pretrain import images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="Tiny-ImageNet, as evidence.pretrain takes it")
    parser.add_argument("--names", type=Path, required=True, help="JSON: wnid to names, the commonest first")
    parser.add_argument("--model", type=Path, required=True, help="folder that evidence.pretrain wrote")
    parser.add_argument(
        "--known", type=int, default=70, help="draw the classes from this many that the model knows best"
    )
    parser.add_argument("--seed", type=int, required=True, help="draws the classes and the order of the looks")
    parser.add_argument("--out", type=Path, required=True, help="a new or an empty folder for the scene")
    parser.add_argument("--tasks", type=int, default=6, help=f"number of tasks, at most {len(LOOKS)}")
    parser.add_argument("--classes", type=int, default=8, help="classes per task")
    parser.add_argument("--images", type=int, default=150, help="training images per class")
    options = parser.parse_args()
    if not 1 <= options.tasks <= len(LOOKS):
        parser.error(f"--tasks must be from 1 to {len(LOOKS)}; got {options.tasks}")
    if options.tasks * options.classes > options.known:
        parser.error(
            f"--tasks times --classes must be at most --known, {options.known}; got {options.tasks * options.classes}"
        )
    if options.out.exists() and any(options.out.iterdir()):
        parser.error(f"--out must be a new or an empty folder; {options.out} holds something")
    names = json.loads(options.names.read_text())
    wnids = sorted(names)
    draw = np.random.RandomState(options.seed)
    known = known_classes(options.model, wnids, options.known)
    chosen = [known[i] for i in draw.permutation(len(known))[: options.tasks * options.classes]]
    looks = [list(LOOKS)[i] for i in draw.permutation(len(LOOKS))[: options.tasks]]
    task_of = {label: position // options.classes for position, label in enumerate(chosen)}
    folder_of = [names[wnid][0].replace("/", " ") for wnid in wnids]
    if len({*folder_of}) < len(folder_of):
        alike = next(name for name in folder_of if folder_of.count(name) > 1)
        parser.error(f"--names must give each class a first name of its own; two classes have {alike!r}")
    for part, where in (("scene", "train"), ("val", "test")):
        pixels, labels = images(options.data, wnids, part)
        counts: dict[int, int] = {}
        for row, label in zip(tqdm(pixels, f"writing {where}"), labels.tolist(), strict=True):
            number = counts[label] = counts.get(label, 0) + 1
            image = Image.fromarray(row.permute(1, 2, 0).numpy())
            made: list[tuple[str, Image.Image]] = []
            if label in task_of:
                if where == "test" or number <= options.images:
                    made = [("scene", LOOKS[looks[task_of[label]]](image)), ("clean", image)]
            elif where == "test" or number == 1:  # untouched classes are not learnt; train/ must hold an image of each
                made = [("untouched", image)]
            for place, content in made:
                path = options.out / place / where / folder_of[label] / f"{number:04}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                content.save(path)
    (options.out / "scene/order.txt").write_text("".join(f"{folder_of[label]}\n" for label in chosen))
    facts = {"seed": options.seed, "looks": looks, "classes": [folder_of[label] for label in chosen]}
    (options.out / "scene.json").write_text(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
