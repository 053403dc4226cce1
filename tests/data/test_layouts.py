"""The layouts that data sets of class folders share: which are taken, what is said about them, and errors for others."""

import numpy as np
import pytest
from trees import make, scenario

from segp_ext.config import DataConfig
from segp_ext.data import load_collection


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


@pytest.mark.parametrize("held", ["valid", "validation"])
def test_other_names_of_the_held_out_part(tmp_path, held):
    root = make(tmp_path, {f"{part}/{c}": 2 for part in ("train", held) for c in "ab"})
    assert scenario(root).layout == f"folder: train/ and {held}/ of <class>/ folders"


@pytest.mark.parametrize(
    ("tree", "layout"),
    [
        ({"images/a": 4, "images/b": 4}, "images/ of flat <class>/ folders without a split"),
        ({"wrapped/twice/a": 4, "wrapped/twice/b": 4}, "wrapped/twice/ of flat <class>/ folders"),
        ({"birds/train/a": 2, "birds/train/b": 2, "birds/test/a": 2, "birds/test/b": 2}, "birds/ with train/ and test/ of <class>/"),
        ({"train/images/a": 2, "train/images/b": 2, "test/a": 2, "test/b": 2}, "train/images/ and test/ of <class>/ folders"),
        ({"x/train/a": 4, "x/train/b": 4}, "x/ with train/ of <class>/ folders without a split; 30 % of each class held out, seed 0"),
        ({"Train/a": 2, "Train/b": 2, "Test/a": 2, "Test/b": 2}, "Train/ and Test/ of <class>/ folders"),
        ({"training/a": 2, "training/b": 2, "testing/a": 2, "testing/b": 2}, "training/ and testing/ of <class>/ folders"),
        (
            {f"{part}/{c}": 2 for part in ("train", "training", "test") for c in "ab"},
            "train/ and test/ of <class>/ folders (training/ is not used)",
        ),
        (
            {f"{part}/{c}": 2 for part in ("TRAIN", "train", "test") for c in "ab"},
            "train/ and test/ of <class>/ folders (TRAIN/ is not used)",
        ),
        ({"TRAIN/a": 2, "TRAIN/b": 2, "dev/a": 2, "dev/b": 2}, "TRAIN/ and dev/ of <class>/ folders"),
        ({"train/a": 4, "train/b": 4, "test": 3}, "held out, seed 0; test/ has no class folders and is not used"),
        ({"a": 2, "b": 2, "lost+found": 0, "__pycache__": 0, "Annotations": 0}, "flat <class>/ folders"),
        ({"images/a": 2, "images/b": 2, "annotations": 0, "attributes": 0, "parts": 0}, "images/ of flat <class>/ folders"),
        ({"train/a": 2, "train/b": 2, "train/annotations": 0, "test/a": 2, "test/b": 2}, "train/ and test/ of <class>/ folders"),
        ({"tRain/a": 2, "tRain/b": 2, "tEst/a": 2, "tEst/b": 2}, "tRain/ and tEst/ of <class>/ folders"),
        ({f"{part}/{c}": 2 for part in ("training_set", "test_set") for c in "ab"}, "training_set/ and test_set/ of <class>/"),
        ({f"{part}/{part}/{c}": 2 for part in ("training_set", "test_set") for c in "ab"}, "training_set/training_set/ and test_set/test_"),
        ({f"{part}/{c}": 2 for part in ("train_images", "test_images") for c in "ab"}, "train_images/ and test_images/ of <class>/"),
        ({f"{part}/{c}": 2 for part in ("training-set", "TestSet") for c in "ab"}, "training-set/ and TestSet/ of <class>/"),
        ({f"{part}/{part}/{c}": 2 for part in ("seg_train", "seg_test") for c in "ab"}, "seg_train/seg_train/ and seg_test/seg_test/ of"),
        ({f"{part}/{c}": 2 for part in ("train_data", "val_data") for c in "ab"}, "train_data/ and val_data/ of <class>/"),
        ({"a": 1, "a/one": 2, "a/two": 2, "b": 3}, "seed 0; a: images and several folders of images, learnt as one class each"),
        ({f"{part}/{c}": 2 for part in ("train", "test", "more") for c in "ab"}, "test/ of <class>/ folders (more/ is not used)"),
        ({"train/a": 4, "train/b": 4, "more": 4, "most": 4}, "held out, seed 0 (more/, most/ are not used)"),
    ],
)  # fmt: skip
def test_layouts_that_are_taken_and_said(tmp_path, tree, layout):
    found = load_collection(DataConfig(root=str(make(tmp_path, tree))))
    assert found.class_names == ["a", "b"] and layout in found.layout


@pytest.mark.parametrize(
    ("tree", "error", "message"),
    [
        (
            {"train": 3, "test": 2},
            FileNotFoundError,
            r"no class folders in .*train'; .*3 images lie in .*train' itself \(00.jpg ...\)",
        ),
        ({"train/cat": 0, "dog": 2}, ValueError, r"class folder 'cat' of .* holds 0 image\(s\)"),
        (
            {"animal/cat": 2, "animal/dog": 2, "car": 3},
            ValueError,
            r"folder 'animal' of .* but 2 folders of images \(cat, dog\). If",
        ),
        (
            {"photo/cat": 2, "photo/dog": 2, "sketch/cat": 2, "sketch/dog": 2},
            ValueError,
            "folder 'photo' of .*merge_folders true",
        ),
        (
            {"train/pet/x/cat": 2, "train/pet/x/dog": 2, "train/z": 2, "test/pet": 2, "test/z": 2},
            ValueError,
            "folder 'train/pet/x' of",
        ),
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
        (
            {f"{part}/{c}": int(part == "train") for part in ("train", "test") for c in ("cat", "dog")},
            ValueError,
            r"class folder 'cat' has no test image in .* \(also without: dog\)",
        ),
        ({"cat": 1, "dog": 1}, ValueError, r"holds 1 image\(s\) \(1 other folders also hold too few\)"),
        ({"cat": 1, "dog": 4}, ValueError, r"class folder 'cat' .* holds 1 image\(s\); at least 2"),
        ({"a_cat": 3, "a cat": 3}, ValueError, "class name 'a cat' stands for two classes"),
        ({}, FileNotFoundError, "no class folders"),
        ({"test/cat": 2, "test/dog": 2}, ValueError, "has a folder 'test' but no train/"),
        (
            {"images/a": 2, "images/b": 2, "annotations/maps": 2},
            ValueError,
            "If these are all classes, give '.*/images' as data.root;",
        ),
        (
            {"train/x/a": 2, "train/x/b": 2, "train/z": 2, "test/x": 2, "test/z": 2},
            ValueError,
            "If these are all classes, move them into '.*/train';",
        ),
    ],
)
def test_unusable_folders_are_named(tmp_path, tree, error, message):
    with pytest.raises(error, match=message):
        scenario(make(tmp_path, tree))
