"""Learns your folder month by month: each run of this program takes the months that are new, and keeps one classifier up to date.

    python examples/month_by_month.py photos animals

`photos` holds a folder for each month, with a folder of images for each new class: photos/2026-01/cat/*.jpg, photos/2026-02/otter/*.jpg.
`animals` is where the learner is kept. Images of earlier months may be gone: they are not read again.
"""

import sys
from pathlib import Path

from torchvision.datasets import ImageFolder

import segp_ext

SETTINGS = "folder"
"""The small model of the package, which needs no download. For photographs take "clip": CLIP ViT-B/16 with OpenAI's weights."""


def new_learner() -> segp_ext.SeGPCL:
    """Makes a learner of no class."""
    config = segp_ext.load_config(SETTINGS)
    return segp_ext.SeGPCL(segp_ext.load_clip(config.model.name, config.model.pretrained), config)


def main(photos: Path, place: Path) -> None:
    """Learns the months in `photos` that the learner in `place` has not learnt yet."""
    learner = segp_ext.SeGPCL.load(place) if place.exists() else new_learner()
    for month in sorted(path for path in photos.iterdir() if path.is_dir()):
        images = ImageFolder(str(month))  # any torch Dataset of (image, label) does
        if set(images.classes) <= set(learner.class_names):
            print(f"{month.name}: learnt already")
            continue
        learner.learn_task(images, images.classes)
        learner.save(place)  # whole or not at all: a crash leaves the learner of the month before
        print(f"{month.name}: learnt {', '.join(images.classes)}; {len(learner.class_names)} classes in all")

    # Every class is asked for in one go, whenever it was learnt.
    for file in sorted(photos.glob("*/*/*"))[:3]:
        best = learner.predict(file, topk=1)[0][0]
        print(f"{file.relative_to(photos)}: {best.name} {100 * best.score:.0f} %")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
