"""Folders whose class folders label their images, and their classes among learnt ones."""

import json

import pytest
from trees import make

from segp_ext.data.labelled_folder import places_among, read_labelled_folder


def read(root, all_parts=False, names_file=None):
    return read_labelled_folder(root, all_parts=all_parts, names_file=names_file)


def inside(folder):
    return [folder.inside(file) for file in folder.files]


def test_a_flat_folder_gives_all_its_images_also_deep_ones(tmp_path):
    found = read(make(tmp_path / "photos", {"old_lion": 1, "cat/day": 2, "cat/night": 1, "empty": 0}))
    assert (found.folders, found.names) == (["cat", "old_lion"], ["cat", "old lion"])
    assert inside(found) == ["cat/day/00.jpg", "cat/day/01.PNG", "cat/night/00.jpg", "old_lion/00.jpg"]
    assert found.label == [0, 0, 0, 1] and found.layout == "<class>/ folders" and found.missing == []


@pytest.mark.parametrize("held", ["test", "val", "Testing"])
def test_the_test_part_is_read_or_all_parts(tmp_path, held):
    root = make(tmp_path / "photos", {"train/cat": 3, f"{held}/cat": 1, f"{held}/zebra": 1})
    found = read(root)
    assert inside(found) == [f"{held}/cat/00.jpg", f"{held}/zebra/00.jpg"]
    assert found.layout == f"{held}/ of <class>/ folders"
    both = read(root, all_parts=True)
    assert both.label == [0, 0, 0, 0, 1] and both.layout == f"train/ and {held}/ of <class>/ folders"


def test_a_test_part_without_classes_is_not_taken(tmp_path):
    root = make(tmp_path / "photos", {"train/cat": 2, "test": 3})
    assert inside(read(root)) == ["train/cat/00.jpg", "train/cat/01.PNG"]
    assert read(root).layout == "train/ of <class>/ folders"
    alone = make(tmp_path / "other", {"test/cat": 1})
    assert inside(read(alone)) == ["test/cat/00.jpg"]


def test_an_archive_s_folder_around_the_parts_is_looked_into(tmp_path):
    make(tmp_path / "photos", {"archive/train/cat": 1, "archive/test/cat": 1})
    assert inside(read(tmp_path / "photos")) == ["test/cat/00.jpg"]


def test_tiny_imagenet_is_known(tmp_path):
    make(tmp_path, {"train/n01443537/images": 2, "val/images": 1})
    (tmp_path / "val/val_annotations.txt").write_text("00.jpg\tn01443537\t0\t0\t5\t5\n")
    (tmp_path / "words.txt").write_text("n01443537\tgoldfish, Carassius auratus\n")
    assert inside(read(tmp_path)) == ["val/images/00.jpg"]
    assert len(read(tmp_path, all_parts=True).files) == 3


def test_links_to_nothing_and_other_files_are_told(tmp_path):
    root = make(tmp_path / "photos", {"cat": 1, "dog": 1})
    (root / "cat/gone.jpg").symlink_to("nowhere.jpg")
    (root / "cat/notes.txt").write_text("x")
    with pytest.warns(RuntimeWarning, match=r"1 file\(s\) of .*photos are left alone: .*: cat/notes.txt"):
        found = read(root)
    assert len(found.missing) == 1 and found.missing[0].startswith("cat/gone.jpg") and len(found.files) == 2


def test_what_is_no_such_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    make(tmp_path, {"nothing/cat": 0, "loose": 2, "above/one/train/cat": 1, "above/two/train/cat": 1, "parts/test": 0})
    for name, kind, message in (
        ("gone", FileNotFoundError, "there is no folder .*gone$"),
        ("file", NotADirectoryError, "file is a file; a folder of class folders is needed, file/<class>/[*]"),
        ("nothing", ValueError, "no image in the class folders of .*nothing .cat; known endings"),
        ("loose", FileNotFoundError, "^no class folders in .*2 images lie in"),
        ("above", ValueError, "^folder 'one' of .*above' holds train/, so it is a data set, not a class"),
        ("parts", FileNotFoundError, "^test/ of .*parts' holds no class folder; there: test/"),
    ):
        with pytest.raises(kind, match=message):
            read(tmp_path / name)


def test_two_folders_of_one_name_are_refused(tmp_path):
    root = make(tmp_path / "photos", {"old lion": 1, "old_lion": 1})
    with pytest.raises(ValueError, match="'old lion' and 'old_lion' of .* have one class name, 'old lion'"):
        read(root)


def test_classes_are_found_by_name_or_by_folder(tmp_path):
    folder = read(make(tmp_path / "photos", {"old_lion": 1, "red_fox": 1, "cafe\u0301": 1, "zebra": 1}))
    places = places_among(folder, ["red_fox", "caf\u00e9", "old lion"])
    assert dict(zip(folder.folders, places, strict=True)) == {
        "old_lion": 2, "red_fox": 0, "cafe\u0301": 1, "zebra": None,
    }  # fmt: skip


def test_a_file_gives_other_names(tmp_path):
    root = make(tmp_path / "photos", {"n1": 1, "n2": 1})
    (root / "names.json").write_text(json.dumps({"n1": "lion", "n2": ["fox", "Vulpes"]}))
    found = read(root, names_file="names.json")
    assert places_among(found, ["fox", "lion"]) == [1, 0]
    with pytest.raises(FileNotFoundError, match="no file 'gone.json'"):
        read(root, names_file="gone.json")


def test_classes_of_another_learner_are_refused(tmp_path):
    folder = read(make(tmp_path / "photos", {"Lion": 1, "old_fox": 1, "old fox!": 1}))
    with pytest.raises(
        ValueError, match="the folders are Lion, old fox!, old_fox, the learner knows cat, dog; --names_file"
    ):
        places_among(folder, ["cat", "dog"])
    with pytest.raises(
        ValueError, match="class folder 'Lion' of .* differs from the learnt class 'lion' in capitals alone"
    ):
        places_among(folder, ["lion"])
    two = read(make(tmp_path / "two", {"a_b": 1}))
    two.folders.append("a b")
    two.names.append("a b")
    with pytest.raises(ValueError, match="the class folders a_b, a b of .* are one learnt class, 'a b'"):
        places_among(two, ["a b"])
