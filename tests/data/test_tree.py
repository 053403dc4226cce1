"""Images below class folders: folders within folders, files that are left alone, and images that cannot be read."""

import pytest
from trees import make, scenario

from segp_ext.config import DataConfig
from segp_ext.data import load_collection


def test_an_unreadable_image_is_named_when_it_is_opened(tmp_path):
    make(tmp_path, {"cat": 4})
    (tmp_path / "cat/00.jpg").write_bytes(b"not a jpeg")
    found = scenario(tmp_path).tasks[0]
    with pytest.raises(ValueError, match="cannot read .*00.jpg as an image"):
        for part in (found.train, found.test):
            for index in range(len(part)):
                part[index]


def test_parts_below_the_classes_are_refused(tmp_path):
    root = make(tmp_path, {f"{c}/{part}": 2 for part in ("train", "test") for c in "ab"})
    with pytest.raises(
        ValueError, match=r"folder 'a' of .* holds the parts test, train. They must stand above the classes"
    ):
        load_collection(DataConfig(root=str(root)))


def test_folders_below_a_class_are_merged_when_asked(tmp_path):
    make(tmp_path, {"animal/cat": 4, "animal/dog": 4, "car": 4})
    found = load_collection(DataConfig(root=str(tmp_path), merge_folders=True))
    assert found.class_names == ["animal", "car"] and [
        len(a) + len(b) for a, b in zip(found.train, found.test, strict=True)
    ] == [8, 4]


def test_images_outside_class_folders_and_other_files_are_named(tmp_path):
    root = make(tmp_path, {"train": 2, "train/a": 2, "train/b": 2, "test/a": 1, "test/b": 1})
    (root / "test/b/film.mp4").write_bytes(b"")
    with pytest.warns(
        RuntimeWarning,
        match=r"3 file\(s\) .* are left alone: .*: train/00.jpg \(in no class folder\), .*test/b/film.mp4",
    ):
        scenario(root)
