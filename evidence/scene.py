"""Writes the natural-image scene: known names under a look that differs from task to task.

    python -m evidence.scene --data DIR --names FILE --model MODEL --seed 1 --out SCENES/1

Classes are drawn from those that the model knows best, by its zero-shot accuracy on the images that the scene will train on, as they are
without any look (`evidence.pretrain` notes it; no test image takes part). A task is a few classes of Tiny-ImageNet in photographs that
`evidence.pretrain` has not seen, all of its images changed in one way: colours inverted, noise, a false-colour scale ... The text tower
knows the names, so there is something to preserve; every look is new to the vision tower, so there is something to learn; and what one task
needs is not what the next one needs, so there is something to forget. The seed chooses classes and which look comes when. Writes
{train,test}/<class>/ in three folders: OUT/scene, with order.txt, a list of the classes in the order of learning; OUT/clean, the same
images as they were; OUT/untouched, with the test images of the classes that no task has.
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
        "--known", type=int, default=70, help="classes are drawn from so many that the model knows best"
    )
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tasks", type=int, default=6, help=f"at most {len(LOOKS)}")
    parser.add_argument("--classes", type=int, default=8, help="of each task")
    parser.add_argument("--images", type=int, default=150, help="training images of each class")
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
        parser.error(f"--names must give each class a first name of its own; {alike!r} is that of two")
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
            elif where == "test" or number == 1:  # nothing is learnt from these
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
