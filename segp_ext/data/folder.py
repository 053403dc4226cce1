"""A user's folder of images, one folder per class."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from segp_ext.data.scenario import Collection, hold_out

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm"})
"""File endings taken as images; other files are left alone."""
LAYOUTS = "<root>/train/<class>/* with <root>/test/<class>/* (or val), or <root>/<class>/*"


def class_name(folder: str) -> str:
    """A folder's name as a class name: underscores become spaces."""
    return " ".join(folder.replace("_", " ").split())


def open_image(path: Path) -> Image.Image:
    """Reads an image file as RGB.

    Raises:
        ValueError: naming the file, if it cannot be read as an image.
    """
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except Exception as error:
        raise ValueError(f"cannot read {path} as an image: {error}") from error


def _images_by_class(part: Path) -> dict[str, list[Path]]:
    classes = sorted(entry for entry in part.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    return {
        c.name: sorted(file for file in c.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
        for c in classes
    }


def folder(root: str | None, test_fraction: float) -> Collection:
    """Reads `<root>/{train,test}/<class>/*` (`val` counts as test), or `<root>/<class>/*` with a seeded split of every class.

    Args:
        root: the folder.
        test_fraction: share of each class held out where there is no split on disk.

    Raises:
        FileNotFoundError: if the folder does not exist or holds no class folders.
        ValueError: for a class with no image, fewer than two in the unsplit layout, or one missing from a part.
    """
    if root is None:
        raise FileNotFoundError(
            f"data.root is not set: give the folder of your images with --data.root; accepted: {LAYOUTS}"
        )
    base = Path(root).expanduser()
    if not base.is_dir():
        raise FileNotFoundError(f"data.root: no folder {root!r}; accepted: {LAYOUTS}")
    held_parts = [base / name for name in ("test", "val") if (base / name).is_dir()]
    if (base / "train").is_dir():
        if not held_parts:
            raise FileNotFoundError(f"data.root: {root!r} has train/ but neither test/ nor val/; accepted: {LAYOUTS}")
        train, test = _images_by_class(base / "train"), _images_by_class(held_parts[0])
        for name in sorted(train.keys() ^ test.keys()):
            there, missing = ("train", held_parts[0].name) if name in train else (held_parts[0].name, "train")
            raise ValueError(f"data.root: class folder {name!r} is in {there}/ but not in {missing}/ of {root!r}")
    else:
        train, test = _images_by_class(base), {}
        for name in train:
            if name.lower() in ("test", "val", "valid", "validation", "training"):
                raise ValueError(f"data.root: {root!r} has a folder {name!r} but no train/; accepted: {LAYOUTS}")
        for name, files in train.items():
            if len(files) < 2:
                raise ValueError(
                    f"data.root: class folder {name!r} of {root!r} holds {len(files)} image(s); at least 2 are needed to split it"
                )
            train[name], test[name] = hold_out(files, test_fraction, seed=0)
    if not train:
        raise FileNotFoundError(f"data.root: no class folders in {root!r}; accepted: {LAYOUTS}")
    for part, images in (("train", train), ("test", test)):
        for name, files in images.items():
            if not files:
                raise ValueError(
                    f"data.root: class folder {name!r} has no {part} image in {root!r}; accepted endings: {', '.join(sorted(SUFFIXES))}"
                )
    folders = list(train)
    return Collection(
        name=base.resolve().name,
        class_names=[class_name(name) for name in folders],
        train=[list(train[name]) for name in folders],
        test=[list(test[name]) for name in folders],
        opener=open_image,
        fingerprint=lambda path: path.relative_to(base).as_posix(),
    )
