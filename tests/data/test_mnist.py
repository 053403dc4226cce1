"""MNIST's four files: plain, compressed, and damaged."""

import gzip
import itertools

import numpy as np
import pytest
from public_trees import mnist_tree
from trees import scenario


@pytest.mark.parametrize("form", ["", ".gz"])
@pytest.mark.parametrize("place", ["MNIST/raw", "mnist", "MNIST", "."])
def test_digits_of_both_parts(tmp_path, place, form):
    mnist_tree(tmp_path / "root" / place, form)
    found = scenario(tmp_path / "root", name="mnist")
    assert found.name == "mnist" and found.class_names == [str(c) for c in range(10)]
    assert found.layout == "MNIST: idx files of images and labels (torchvision's)"
    for number, task in enumerate(found.tasks):
        assert (len(task.train), len(task.test)) == (6, 2)
        for part, mark in ((task.train, 255), (task.test, 0)):
            pixels, label = part[len(part) - 1]
            assert pixels.shape == (3, 28, 28) and pixels.dtype == np.uint8 and label == 1
            assert set(pixels[:, 0, 0]) == {mark} and set(pixels[:, 5, 7]) == {2 * number + 1}


def test_the_hash_is_of_the_pixels(tmp_path):
    mnist_tree(tmp_path / "a/mnist")
    mnist_tree(tmp_path / "b/MNIST/raw", ".gz")
    mnist_tree(tmp_path / "c/mnist", per_class=(4, 1))
    one, two, other = (scenario(tmp_path / name, name="mnist").split_hash for name in "abc")
    assert one == two != other


def test_what_is_missing_is_named(tmp_path):
    folder = mnist_tree(tmp_path / "MNIST/raw")
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(
        FileNotFoundError,
        match="no complete MNIST in .*raw': t10k-labels-idx1-ubyte not found; there: t10k-images-idx3-ubyte, .*Download: .*http",
    ):
        scenario(tmp_path, name="mnist")


def idx(kind, *sizes, values=b""):
    return bytes([0, 0, kind, len(sizes)]) + b"".join(size.to_bytes(4, "big") for size in sizes) + values


@pytest.mark.parametrize(
    ("file", "data", "message"),
    [
        ("train-images-idx3-ubyte", b"", "train-images-idx3-ubyte is not MNIST's: it does not begin like a file of bytes in 3"),
        ("train-images-idx3-ubyte", idx(9, 1, 28, 28), "does not begin like a file of bytes in 3 dimension"),
        ("train-images-idx3-ubyte", idx(8, 1, 28, 28), r"\[1, 28, 28\] values are stated, 0 are there"),
        ("train-images-idx3-ubyte", idx(8, *[2**32 - 1] * 3, values=b"x"), r"values are stated, 1 are there"),
        ("train-images-idx3-ubyte", idx(8, 1, 8, 8, values=bytes(64)), r"must hold images of 28 × 28 pixels; got \[8, 8\]"),
        ("train-labels-idx1-ubyte", idx(8, 2, values=bytes(2)), "must have a label per image; got 2 for 30"),
        ("train-labels-idx1-ubyte", idx(8, 30, values=bytes([10] * 30)), "labels must be from 0 to 9; got 10"),
        ("train-labels-idx1-ubyte", idx(8, 30, values=bytes(30)), "class '1' of mnist has no train image"),
        ("t10k-labels-idx1-ubyte.gz", b"\x1f\x8bx", "t10k-labels-idx1-ubyte.gz is not MNIST's"),
        ("t10k-labels-idx1-ubyte.gz", b"plain", "t10k-labels-idx1-ubyte.gz is not MNIST's"),
        ("t10k-labels-idx1-ubyte.gz", gzip.compress(bytes(99), mtime=0)[:-12], "t10k-labels-idx1-ubyte.gz is not MNIST's"),
    ],
    ids=itertools.count(),
)  # fmt: skip
def test_a_damaged_file_is_named(tmp_path, file, data, message):
    folder = mnist_tree(tmp_path / "mnist")
    (folder / file.removesuffix(".gz")).unlink()
    (folder / file).write_bytes(data)
    with pytest.raises(ValueError, match=message):
        scenario(tmp_path, name="mnist")


@pytest.mark.parametrize("name", ["class_list", "names_file"])
def test_its_classes_have_no_folders(name, tmp_path):
    with pytest.raises(ValueError, match=f"data.{name} is for data sets in class folders; mnist has none"):
        scenario(tmp_path, name="mnist", **{name: "x"})
