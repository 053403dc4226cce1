"""Makes small data sets on disk, so that the tests need no real ones."""

import functools
import io
import pickle
import pickletools
from pathlib import Path

import numpy as np
from PIL import Image

from segp_ext.config import DataConfig
from segp_ext.data import Scenario, load_collection, load_scenario


@functools.cache
def encoded(index: int, ending: str) -> bytes:
    """Returns the bytes of a small image file, which differ for every index."""
    pixels = np.random.RandomState(index).randint(0, 255, (6, 5, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG" if ending.lower() in ("jpg", "jpeg") else ending.upper())
    return buffer.getvalue()


def make(root: Path, tree: dict[str, int]) -> Path:
    """Writes `count` small images to each folder of `tree`."""
    for folder, count in tree.items():
        (root / folder).mkdir(parents=True)
        for index in range(count):
            ending = ("jpg", "PNG")[index % 2]
            (root / folder / f"{index:02d}.{ending}").write_bytes(encoded(index, ending))
    return root


def scenario(root: Path, **settings) -> Scenario:
    """Loads a made data set: two classes a task, in the data set's own order, unless `settings` say otherwise."""
    return load_scenario(DataConfig(root=str(root), **{"classes_per_task": 2, "order": None, **settings}))


def split(root, train, test, **settings):
    """Writes two lists, and loads the data set that they split."""
    (root / "train.txt").write_text("".join(f"{line}\n" for line in train))
    (root / "test.txt").write_text("".join(f"{line}\n" for line in test))
    return load_collection(DataConfig(root=str(root), train_list="train.txt", test_list="test.txt", **settings))


def as_python2_wrote(content: dict) -> bytes:
    """Makes a pickle with Python 2's opcodes for strings and NumPy 1's module names, like the published CIFAR100 archive."""
    out = [b"\x80\x02}("]

    def put(value):
        if isinstance(value, bytes):
            out.append(b"T" + len(value).to_bytes(4, "little") + value)
        elif isinstance(value, int):
            out.append(b"J" + value.to_bytes(4, "little", signed=True))
        elif isinstance(value, list):
            out.append(b"](")
            for item in value:
                put(item)
            out.append(b"e")
        else:  # array
            out.append(b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R")
            out.append(b"(K\x01")
            for size in value.shape:
                put(int(size))
            out.append(
                b"\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
            )
            put(value.tobytes())
            out.append(b"tb")

    for key, value in content.items():
        put(key)
        put(value)
    out.append(b"u.")
    data = b"".join(out)
    pickletools.dis(data, out=io.StringIO())  # raises where the opcodes are no pickle
    return data


def cifar100(root: Path, style: str = "python2", per_class: tuple[int, int] = (2, 1), classes: int = 100) -> Path:
    """Makes a CIFAR100 archive of few images. The colour of an image tells its class."""
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    names = [f"thing_{c:02d}" for c in range(classes)]
    write = {
        "python2": as_python2_wrote,
        "protocol2": lambda content: pickle.dumps(content, 2),
        "protocol5": lambda content: pickle.dumps(content, 5),
    }[style]
    text = (lambda t: t.encode()) if style == "python2" else str
    (folder / "meta").write_bytes(write({text("fine_label_names"): [text(name) for name in names]}))
    for part, count in zip(("train", "test"), per_class, strict=True):
        labels = [c for _ in range(count) for c in range(classes)]
        rows = np.array([[c] * 1024 + [2 * c] * 1024 + [part == "test"] * 1024 for c in labels], np.uint8)
        (folder / part).write_bytes(write({text("data"): rows, text("fine_labels"): labels}))
    return root
