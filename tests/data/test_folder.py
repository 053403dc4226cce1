"""Folders of images: the layouts that are taken, and the errors for those that are not."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segp_ext.config import DataConfig
from segp_ext.data import load_scenario
from segp_ext.data.folder import class_name


def make(root: Path, tree: dict[str, int]) -> Path:
    """Writes `count` small images to each folder of `tree`."""
    for folder, count in tree.items():
        (root / folder).mkdir(parents=True)
        for index in range(count):
            pixels = np.random.RandomState(index).randint(0, 255, (6, 5, 3), np.uint8)
            Image.fromarray(pixels).save(root / folder / f"{index:02d}.{('jpg', 'PNG')[index % 2]}")
    return root


def scenario(root, **settings):
    return load_scenario(DataConfig(root=str(root), **{"classes_per_task": 2, "order": None, **settings}))


@pytest.mark.parametrize("held", ["test", "val"])
def test_split_layout(tmp_path, held):
    make(
        tmp_path,
        {f"train/{c}": 3 for c in ("red_fox", "cat", "dog")} | {f"{held}/{c}": 2 for c in ("red_fox", "cat", "dog")},
    )
    (tmp_path / "train/cat/notes.txt").write_text("not an image")
    (tmp_path / "train/.cache").mkdir()
    found = scenario(tmp_path)
    assert [task.class_names for task in found.tasks] == [["cat", "dog"], ["red fox"]]
    assert [len(task.train) for task in found.tasks] == [6, 3] and [len(task.test) for task in found.tasks] == [4, 2]
    image, label = found.tasks[0].train[3]
    assert image.size == (5, 6) and image.mode == "RGB" and label == 1


def test_unsplit_layout_is_split_by_class_and_always_alike(tmp_path):
    make(tmp_path, {"cat": 10, "dog": 2})
    first, again = scenario(tmp_path, test_fraction=0.3), scenario(tmp_path, test_fraction=0.3)
    task = first.tasks[0]
    assert np.bincount(task.train.labels).tolist() == [7, 1] and np.bincount(task.test.labels).tolist() == [3, 1]
    assert set(task.train.sources).isdisjoint(task.test.sources)
    assert task.test.sources == again.tasks[0].test.sources and first.split_hash == again.split_hash


def test_validation_comes_out_of_the_training_images(tmp_path):
    make(tmp_path, {"train/cat": 8, "test/cat": 3})
    test, validation = scenario(tmp_path), scenario(tmp_path, evaluate_on="validation")
    kept, held = validation.tasks[0].train.sources, validation.tasks[0].test.sources
    assert len(kept) == 6 and len(held) == 2
    assert sorted(kept + held) == test.tasks[0].train.sources
    assert test.split_hash != validation.split_hash


def test_order_tasks_and_limits(tmp_path):
    names = ["a", "b", "c", "d", "e"]
    make(tmp_path, {f"{part}/{n}": 3 for part in ("train", "test") for n in names})
    found = scenario(tmp_path, order=7, max_images_per_class=2)
    order = np.random.RandomState(7).permutation(5)
    assert found.class_names == [names[c] for c in order]
    assert [len(task.train) for task in found.tasks] == [4, 4, 2]
    assert found.split_hash != scenario(tmp_path, order=8, max_images_per_class=2).split_hash


@pytest.mark.parametrize(
    ("tree", "error", "message"),
    [
        ({"train/cat": 2}, FileNotFoundError, "has train/ but neither test/ nor val/"),
        (
            {"train/cat": 2, "train/dog": 2, "test/cat": 1},
            ValueError,
            "class folder 'dog' is in train/ but not in test/",
        ),
        (
            {"train/cat": 2, "test/cat": 1, "test/dog": 1},
            ValueError,
            "class folder 'dog' is in test/ but not in train/",
        ),
        (
            {"train/cat": 2, "train/dog": 0, "test/cat": 1, "test/dog": 1},
            ValueError,
            "class folder 'dog' has no train image",
        ),
        ({"train/cat": 2, "test/cat": 0}, ValueError, "class folder 'cat' has no test image"),
        ({"cat": 1, "dog": 4}, ValueError, r"class folder 'cat' .* holds 1 image\(s\); at least 2"),
        ({"a_cat": 3, "a cat": 3}, ValueError, "class name 'a cat' stands for two classes"),
        ({}, FileNotFoundError, "no class folders"),
        ({"test/cat": 2, "test/dog": 2}, ValueError, "has a folder 'test' but no train/"),
    ],
)
def test_unusable_folders_are_named(tmp_path, tree, error, message):
    with pytest.raises(error, match=message):
        scenario(make(tmp_path, tree))


def test_missing_root():
    with pytest.raises(FileNotFoundError, match="data.root: no folder 'no/such/place'; accepted: <root>/train"):
        scenario("no/such/place")
    with pytest.raises(FileNotFoundError, match="data.root is not set.*--data.root"):
        load_scenario(DataConfig(name="folder"))


def test_an_unreadable_image_is_named_when_it_is_opened(tmp_path):
    make(tmp_path, {"cat": 4})
    (tmp_path / "cat/00.jpg").write_bytes(b"not a jpeg")
    found = scenario(tmp_path).tasks[0]
    with pytest.raises(ValueError, match="cannot read .*00.jpg as an image"):
        for part in (found.train, found.test):
            for index in range(len(part)):
                part[index]


def test_class_names_from_folders():
    assert class_name("red_fox") == "red fox" and class_name("__x__y ") == "x y"
