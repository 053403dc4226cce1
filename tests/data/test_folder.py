"""Folders of images: the layouts that are taken, and the errors for those that are not."""

import json
import os
import unicodedata

import numpy as np
import pytest
from PIL import Image
from trees import make, scenario

from segp_ext.config import DataConfig
from segp_ext.data import load_collection, load_scenario
from segp_ext.data.folder import class_name


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


def test_lists_over_a_flat_tree(tmp_path):
    make(tmp_path, {"sea_lion/deep": 4, "cat": 4, "other": 2})
    (tmp_path / "cat/my photo.jpg").write_bytes((tmp_path / "cat/00.jpg").read_bytes())
    (tmp_path / "train.txt").write_text("sea_lion/deep/00.jpg\ncat/01.PNG,1\n\ncat/my photo.jpg 0\n")
    (tmp_path / "test.txt").write_text("sea_lion/deep/02.jpg\n/data/set/cat/03.PNG\n")
    found = scenario(tmp_path, train_list="train.txt", test_list="test.txt")
    assert found.class_names == ["cat", "sea lion"] and found.name == tmp_path.name
    assert [s.name for s in found.tasks[0].train.sources] == ["01.PNG", "my photo.jpg", "00.jpg"]
    assert [s.name for s in found.tasks[0].test.sources] == ["03.PNG", "02.jpg"]
    assert found.tasks[0].train.labels == [0, 0, 1]
    (tmp_path / "cat_names.txt").write_text("of cats")
    unasked = scenario(tmp_path)
    assert unasked.layout.endswith("seed 0 (a split is there: --data.train_list train.txt --data.test_list test.txt)")
    (tmp_path / "test.txt").rename(tmp_path / "train_test_split.txt")
    assert scenario(tmp_path).layout.endswith("seed 0")


@pytest.mark.parametrize(
    ("train", "test", "error", "message"),
    [
        ("cat/00.jpg\ncat/09.jpg\ncat/tmp", "cat/02.jpg", FileNotFoundError, "2 image.*: cat/09.jpg .in train.txt., cat/tmp .in train"),
        ("cat/00.jpg", "cat/00.jpg", ValueError, "share 1 image.*00.jpg; a split may not overlap"),
        ("cat/00.jpg", "dog/09.jpg", ValueError, "data.test_list: none of the images that .*test.txt names is in"),
        ("cat/00.jpg", "dog/00.jpg", ValueError, "class folder 'cat' is in train/ but not in test/"),
    ],
)  # fmt: skip
def test_lists_that_do_not_fit_the_images(tmp_path, train, test, error, message):
    make(tmp_path, {"cat": 4, "dog": 1})
    (tmp_path / "train.txt").write_text(train)
    (tmp_path / "test.txt").write_text(test)
    with pytest.raises(error, match=message):
        scenario(tmp_path, train_list="train.txt", test_list="test.txt")


def split(root, train, test, **settings):
    """The data set of two lists."""
    (root / "train.txt").write_text("".join(f"{line}\n" for line in train))
    (root / "test.txt").write_text("".join(f"{line}\n" for line in test))
    return load_collection(DataConfig(root=str(root), train_list="train.txt", test_list="test.txt", **settings))


@pytest.mark.parametrize("named", ["", "images/"])
@pytest.mark.parametrize("beside", [{}, {"annotations": 0}])
def test_lists_over_a_wrapped_tree(tmp_path, named, beside):
    """The images stand in the lists as they do without lists, with the folder around the classes or without it."""
    root = make(tmp_path, {"images/cat": 2, "images/dog": 2, **beside})
    found = split(root, [f"{named}cat/00.jpg", f"{named}dog/00.jpg"], [f"{named}cat/01.PNG", f"{named}dog/01.PNG"])
    assert found.class_names == ["cat", "dog"] and [file.name for file in found.train[0]] == ["00.jpg"]
    assert found.layout == "folder: images/ of flat <class>/ folders, split by train.txt and test.txt"


@pytest.mark.parametrize("above", [("animal", "plant"), ("photo", "sketch")])
def test_lists_do_not_take_what_stands_above_the_classes(tmp_path, above):
    folders = [f"{top}/{name}" for top in above for name in ("cat", "oak")]
    root, lists = make(tmp_path, dict.fromkeys([*folders, "unlisted/x", "unlisted/y"], 2)), []
    for file in ("00.jpg", "01.PNG"):
        lists.append([f"{folder}/{file}" for folder in folders])
    with pytest.raises(
        ValueError, match=f"folder '{above[0]}' of .* but 2 folders of images .*--data.merge_folders true"
    ):
        split(root, *lists)
    assert split(root, *lists, merge_folders=True).class_names == list(above)


HEAD = "file,label"


@pytest.mark.parametrize(
    ("tree", "train", "message"),
    [
        ({"images": 4}, [HEAD, "images/00.jpg,cat", "images/01.PNG,dog"], "images/01.PNG the label 'dog', and .*00.jpg the label 'cat'"),
        ({"images": 4}, ["images/00.jpg cat", "images/01.PNG dog"], "the class of an image is its folder, here 'images'. Put the images"),
        ({"images": 4}, ["images/00.jpg 0", "images/01.PNG 1", "images/02.jpg 1"], "images/01.PNG the label '1', and"),
        ({"cat": 4, "dog": 4}, [HEAD, "cat/00.jpg,dog", "dog/00.jpg,dog"], "cat/00.jpg the label 'dog', but the class .* here 'cat'"),
        ({"cat": 4, "dog": 4}, ["cat/00.jpg,Dog", "dog/00.jpg,Cat"], "cat/00.jpg the label 'Dog', but"),
        ({"cat": 4, "dog": 4}, ["n,file,class", "7,cat/00.jpg,a", "8,dog/00.jpg,a", "9,cat/02.jpg,b"], "dog/00.jpg the label 'a', as"),
        ({"cat": 4, "dog": 4, "elm": 4}, ["cat/00.jpg 0", "dog/00.jpg 0", "elm/00.jpg 1"], "dog/00.jpg the label '0', as .*cat/00.jpg of"),
    ],
)  # fmt: skip
def test_labels_of_lists_may_not_contradict_the_folders(tmp_path, tree, train, message):
    root = make(tmp_path, tree)
    with pytest.raises(ValueError, match=f"data.train_list: .*train.txt gives .*{message}"):
        split(root, train, [f"{name}/03.PNG" for name in tree])


@pytest.mark.parametrize(
    "columns",
    [
        ["{} 0", "{} 1", "{} 0"],  # the folders are 1 and 2
        ["{} tench", "{} fox", "{} tench"],
        ["0 {}", "1 {}", "2 {}"],  # numbers of the lines
        ["{} 7", "{} 7", "{} 7"],
        ["7,{},a", "8,{},a", "9,{},b"],  # which nothing calls labels
        ["{} 1/00.jpg", "{} 1/00.jpg", "{} 2/00.jpg"],
    ],
)
def test_columns_that_are_no_labels_or_agree_with_the_folders(tmp_path, columns):
    root = make(tmp_path, {"1": 4, "2": 2})
    files = ("1/00.jpg", "2/00.jpg", "1/02.jpg")
    found = split(
        root, [line.format(file) for line, file in zip(columns, files, strict=True)], ["1/01.PNG", "2/01.PNG"]
    )
    assert found.class_names == ["1", "2"] and [len(of_class) for of_class in found.train] == [2, 1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "data.train_list: .*train.txt is empty; a list names one image a line"),
        ("# by hand\n", "train.txt is empty"),
        ('[\n"a/00.jpg"\n]', "train.txt looks like JSON; a list has one path a line, or is a YAML file"),
        ("<html>\n", "train.txt looks like markup"),
        (
            "ImageId,width\n",
            "none of the images that .*train.txt names is in .*; named: nothing but column names; there: a/",
        ),
    ],
)
def test_lists_that_hold_something_else(tmp_path, content, message):
    root = make(tmp_path, {"a": 2, "b": 2})
    with pytest.raises(ValueError, match=message):
        split(root, [content], ["a/01.PNG"])


@pytest.mark.parametrize("after", ["", " 0", ",0"])
@pytest.mark.parametrize("gone", ["00 2.jpg", "00.jpg (1).jpg", "01 (1).PNG", "00,2.jpg", "deep/00.jpg"])
def test_a_missing_image_of_a_list_is_no_other_image(tmp_path, gone, after):
    """The names that a shorter reading would make of these are there, in the other list too."""
    root = make(tmp_path, {"a": 4, "b": 2, "a/deep": 0, "deep": 2})
    (root / "a/deep/99.jpg").write_bytes((root / "a/00.jpg").read_bytes())
    found = split(
        root, [f"a/02.jpg{after}", f"a/{gone}{after}", f"b/00.jpg{after}"], ["a/01.PNG", "a/00.jpg", "b/01.PNG"]
    )
    assert (
        [file.name for file in found.train[0]] == ["02.jpg"]
        and len(found.missing) == 1
        and gone.split(",")[-1] in found.missing[0]
    )


def test_lists_are_for_flat_trees_and_must_be_there(tmp_path):
    make(tmp_path, {"train/cat": 2, "test/cat": 2})
    with pytest.raises(FileNotFoundError, match="data.train_list: no file 'train.txt', here or in"):
        scenario(tmp_path, train_list="train.txt", test_list="test.txt")
    for name in ("train.txt", "test.txt"):
        (tmp_path / name).write_text("cat/00.jpg")
    with pytest.raises(
        ValueError, match="has a folder 't\\w+' but data.train_list and data.test_list are for <root>/<class>/"
    ):
        scenario(tmp_path, train_list="train.txt", test_list="test.txt")
    (tmp_path / "train.yaml").write_text("images: [cat/00.jpg]")
    with pytest.raises(ValueError, match="train.yaml must hold a list of paths under data:"):
        scenario(
            make(tmp_path / "flat", {"cat": 2}),
            train_list=str(tmp_path / "train.yaml"),
            test_list=str(tmp_path / "test.txt"),
        )


def test_tiny_imagenet(tmp_path):
    """Validation images lie in one folder, their classes in a file; test images have no class and are not used."""
    make(tmp_path, {"train/n02/images": 3, "train/n01/images": 2, "val/images": 4, "test/images": 2})
    (tmp_path / "train/n01/n01_boxes.txt").write_text("0 0 1 1")
    rows = [("00.jpg", "n01"), ("01.PNG", "n02"), ("02.jpg", "n02"), ("03.PNG", "n01")]
    annotations = tmp_path / "val/val_annotations.txt"
    annotations.write_text("".join(f"{file}\t{wnid}\t0\t0\t5\t5\n" for file, wnid in rows))
    (tmp_path / "names.json").write_text(
        json.dumps({"n01": ["goldfish", "Carassius auratus"], "n02": "European fox", "n03": 1})
    )
    found = scenario(tmp_path, names_file="names.json")
    assert found.layout == "folder: train/<wnid>/ folders and val/ with val_annotations.txt (Tiny-ImageNet)"
    assert found.class_names == ["goldfish", "European fox"]
    assert found.tasks[0].train.labels == [0, 0, 1, 1, 1] and found.tasks[0].test.labels == [0, 0, 1, 1]
    assert [s.name for s in found.tasks[0].test.sources] == ["00.jpg", "03.PNG", "01.PNG", "02.jpg"]
    (tmp_path / "val/images/02.jpg").unlink()
    with pytest.raises(FileNotFoundError, match="val/images/02.jpg .in val_annotations.txt."):
        scenario(tmp_path)
    annotations.write_text("00.jpg\n")
    with pytest.raises(ValueError, match="val_annotations.txt, line 1: a file and a class are needed"):
        scenario(tmp_path)


def test_a_list_of_classes_and_names_from_a_file(tmp_path):
    make(tmp_path, {"a_b": 2, "c": 2, "d": 2})
    (tmp_path / "classes.txt").write_text("d\na_b\n")
    assert scenario(tmp_path, class_list="classes.txt").class_names == ["d", "a b"]
    assert scenario(tmp_path, class_list="classes.txt", names="folders").class_names == ["d", "a_b"]
    (tmp_path / "names.json").write_text('{"a_b": "ox", "c": []}')
    with pytest.raises(ValueError, match="data.names_file: .*names.json has no name .* for class folder c, d"):
        scenario(tmp_path, names_file="names.json")
    (tmp_path / "names.json").write_text('["ox", "cat", "dog"]')
    with pytest.raises(ValueError, match=r'must hold names by class folder, {"folder": "name", ...}; it holds a list'):
        scenario(tmp_path, names_file="names.json")
    (tmp_path / "names.json").write_text('\ufeff{"a_b": "ox", "c": "cow", "d": "dog"}', encoding="utf-8")
    assert scenario(tmp_path, names_file="names.json").class_names == ["ox", "cow", "dog"]
    (tmp_path / "names.json").write_text("{")
    with pytest.raises(ValueError, match="names.json is no JSON file"):
        scenario(tmp_path, names_file="names.json")


def test_the_split_hash_notices_a_changed_file(tmp_path):
    make(tmp_path / "a", {"train/cat": 2, "test/cat": 2})
    make(tmp_path / "b", {"train/cat": 2, "test/cat": 2})
    first = scenario(tmp_path / "a")
    assert first.split_hash == scenario(tmp_path / "b").split_hash
    with (tmp_path / "b/test/cat/00.jpg").open("ab") as file:
        file.write(b"\0")
    assert first.split_hash != scenario(tmp_path / "b").split_hash


def test_unreadable_and_broken_images_are_left_out_when_asked(tmp_path):
    make(tmp_path, {"train/cat": 4, "test/cat": 2})
    (tmp_path / "train/cat/00.jpg").write_bytes(b"not a jpeg")
    whole = (tmp_path / "train/cat/01.PNG").read_bytes()
    (tmp_path / "train/cat/01.PNG").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "test/cat/gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "test/cat/._00.jpg").write_bytes(b"hidden")
    with pytest.raises(FileNotFoundError, match="test/cat/gone.jpg .a broken link, or no file."):
        scenario(tmp_path)
    with pytest.warns(RuntimeWarning, match=r"3 image\(s\) of .* left out .*gone.jpg .*, .*00.jpg, .*01.PNG"):
        found = scenario(tmp_path, unreadable="skip")
    assert [s.name for s in found.tasks[0].train.sources] == ["02.jpg", "03.PNG"] and len(found.tasks[0].test) == 2
    (tmp_path / "test/cat/gone.jpg").unlink()
    assert found.split_hash != scenario(tmp_path).split_hash
    with pytest.raises(
        ValueError, match="cannot read .*doctor lists all such files; --data.unreadable skip leaves them out"
    ):
        scenario(tmp_path).tasks[0].train[0]


def test_what_programs_leave_behind_is_no_data(tmp_path):
    root = make(tmp_path, {f"{part}/{c}": 2 for part in ("train", "test") for c in "ab"})
    make(
        root, {"train/a/.cache": 1, "train/a/@eaDir": 1, "train/__MACOSX/a": 1, "test/@eaDir": 1, "train/b/deep/er": 1}
    )
    make(
        root,
        {"train/$RECYCLE.BIN": 1, "test/System Volume Information": 1, "train/#recycle/a": 1, "test/b/@Recycle": 1},
    )
    for name in ("Desktop.ini", "ehthumbs.db", "Icon\r"):
        (root / "train/a" / name).write_bytes(b"")
    found = scenario(root)
    assert found.class_names == ["a", "b"] and load_collection(DataConfig(root=str(root))).stray == []
    assert [len(task.train) for task in found.tasks] == [5] and [len(task.test) for task in found.tasks] == [4]


def test_linked_folders_are_read_and_loops_end(tmp_path):
    root = make(tmp_path / "data", {"a/part": 2, "b": 2})
    make(tmp_path / "elsewhere", {"more": 3})
    (root / "a/linked").symlink_to(tmp_path / "elsewhere/more")
    (root / "a/back").symlink_to(root / "a")
    (root / "c").symlink_to(tmp_path / "elsewhere/more")
    found = load_collection(DataConfig(root=str(root), merge_folders=True))
    assert [len(a) + len(b) for a, b in zip(found.train, found.test, strict=True)] == [5, 2, 3]


def test_a_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    root = make(tmp_path, {"a": 2, "b/closed": 2})
    usual = os.scandir

    def scandir(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return usual(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(PermissionError, match="b/closed"):
        load_collection(DataConfig(root=str(root)))


def test_a_root_above_several_data_sets_is_named(tmp_path):
    sets = {f"{place}/{part}/{c}": 2 for place in ("birds", "train/birds") for part in ("train", "test") for c in "ab"}
    make(tmp_path, {**sets, "test/a": 1})
    with pytest.raises(
        ValueError, match=r"folder 'birds' of .* holds train/, so it is a data set, not a class; give '.*/birds'"
    ):
        scenario(tmp_path)


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


def test_a_class_may_be_named_like_a_part(tmp_path):
    found = load_collection(DataConfig(root=str(make(tmp_path, {"train": 4, "car": 4, "test": 4}))))
    assert found.class_names == ["car", "test", "train"] and sum(map(len, found.train)) == 9
    inside = load_collection(
        DataConfig(root=str(make(tmp_path / "inside", {"train/images": 4, "car/images": 4, "plane/images": 4})))
    )
    assert inside.class_names == ["car", "plane", "train"]


def test_parts_below_the_classes_are_refused(tmp_path):
    root = make(tmp_path, {f"{c}/{part}": 2 for part in ("train", "test") for c in "ab"})
    with pytest.raises(
        ValueError, match=r"folder 'a' of .* holds the parts test, train. They must stand above the classes"
    ):
        load_collection(DataConfig(root=str(root)))


@pytest.mark.parametrize("first", ["# all", "class", "0 a", "a,0", '["a", "b"]'])
def test_a_class_list_of_another_form_says_which_is_taken(tmp_path, first):
    root = make(tmp_path, {"a": 2, "b": 2})
    (root / "classes.txt").write_text(f"{first}\nb\n")
    with pytest.raises(
        ValueError, match="names .*, but the class folders of .* are a, b. The list takes one class folder a line"
    ):
        load_collection(DataConfig(root=str(root), class_list="classes.txt"))


def test_folders_below_a_class_are_merged_when_asked(tmp_path):
    make(tmp_path, {"animal/cat": 4, "animal/dog": 4, "car": 4})
    found = load_collection(DataConfig(root=str(tmp_path), merge_folders=True))
    assert found.class_names == ["animal", "car"] and [
        len(a) + len(b) for a, b in zip(found.train, found.test, strict=True)
    ] == [8, 4]


@pytest.mark.parametrize("held", ["valid", "validation"])
def test_other_names_of_the_held_out_part(tmp_path, held):
    root = make(tmp_path, {f"{part}/{c}": 2 for part in ("train", held) for c in "ab"})
    assert scenario(root).layout == f"folder: train/ and {held}/ of <class>/ folders"


def test_images_outside_class_folders_and_other_files_are_named(tmp_path):
    root = make(tmp_path, {"train": 2, "train/a": 2, "train/b": 2, "test/a": 1, "test/b": 1})
    (root / "test/b/film.mp4").write_bytes(b"")
    with pytest.warns(
        RuntimeWarning,
        match=r"3 file\(s\) .* are left alone, .*: train/00.jpg \(in no class folder\), .*test/b/film.mp4",
    ):
        scenario(root)


def test_endings_of_jpeg(tmp_path):
    root = make(tmp_path, {"a": 2, "b": 2})
    for number, ending in enumerate(("jfif", "JPE", "pgm")):
        name = root / f"a/x{number}.{ending}"
        Image.new("L", (4, 4)).save(name, "PPM" if ending == "pgm" else "JPEG")
    found = load_collection(DataConfig(root=str(root)))
    assert len(found.train[0]) + len(found.test[0]) == 5
    for source in found.train[0]:
        assert found.opener(source).mode == "RGB"


def test_quoted_and_separated_entries_of_lists(tmp_path):
    root = make(tmp_path, {"a": 2, "b": 2})
    (root / "train.txt").write_text("\"a/00.jpg\";0\n'b/00.jpg'\n")
    (root / "test.txt").write_text("a/01.PNG|0\nb/01.PNG;1\n")
    found = scenario(root, train_list="train.txt", test_list="test.txt")
    assert (len(found.tasks[0].train), len(found.tasks[0].test)) == (2, 2)


@pytest.mark.parametrize(
    ("form", "encoding"),
    [
        ("image,label\n{},0\n{},1\n", "utf-8"),
        ("filename;class\n{};a\n{};b\n", "utf-8-sig"),
        ("{} 0\n{} 1\n", "utf-8-sig"),
        ("# made by hand\n{} 0\n\n// the second\n{} 1\n", "utf-8"),
        ("0\t{}\n1\t{}\n", "utf-8"),
        ("0 {}\n1 {}\n", "utf-8"),
        ('"0","{}"\n"1","{}"\n', "utf-8"),
        ("id,image_path,label\n7,data/set/{},0\n8,data/set/{},1\n", "utf-8"),
        ("ImageId,width\n{},5\n{},6\n", "utf-8"),
        ("{} masks/0.png\n{} masks/1.png\n", "utf-8"),
        ("{}\r\n{}\r\n", "utf-16"),
        ("# Füchse\n{}\n{}\n", "latin-1"),
    ],
)
@pytest.mark.parametrize("ending", [True, False])
def test_lists_in_the_forms_that_are_common(tmp_path, form, encoding, ending):
    root = make(tmp_path, {"red fox": 2, "b": 2})
    for name, files in {
        "train.txt": ("red fox/00.jpg", "b/00.jpg"),
        "test.txt": ("red fox/01.PNG", "b/01.PNG"),
    }.items():
        given = files if ending else [file.rpartition(".")[0] for file in files]
        (root / name).write_bytes(form.format(*given).encode(encoding))
    found = load_collection(DataConfig(root=str(root), train_list="train.txt", test_list="test.txt"))
    assert found.class_names == ["b", "red fox"] and found.missing == [] and found.stray == []
    assert [[file.name for file in files] for files in (*found.train, *found.test)] == [
        ["00.jpg"],
        ["00.jpg"],
        ["01.PNG"],
        ["01.PNG"],
    ]


def test_a_name_without_an_ending_that_two_images_have_is_missing(tmp_path):
    root = make(tmp_path, {"a": 2, "b": 2})
    Image.new("RGB", (4, 4)).save(root / "a/00.png")
    (root / "train.txt").write_text("a/00\na/00.png\nb/00\n")
    (root / "test.txt").write_text("a/01\nb/01\n")
    found = load_collection(DataConfig(root=str(root), train_list="train.txt", test_list="test.txt", unreadable="skip"))
    assert found.missing == ["a/00 (in train.txt)"] and [file.name for file in found.train[0]] == ["00.png"]


@pytest.mark.parametrize("after", ["", " 0", ",0", "\t0"])
def test_an_ending_within_a_name_of_a_list(tmp_path, after):
    root = make(tmp_path, {"a": 2, "b": 2})
    (root / "a/00.jpg (1).jpg").write_bytes((root / "a/00.jpg").read_bytes())
    (root / "train.txt").write_text(f"a/00.jpg (1).jpg{after}\nb/00.jpg{after}\n")
    (root / "test.txt").write_text("a/01.PNG\nb/01.PNG\n")
    found = load_collection(DataConfig(root=str(root), train_list="train.txt", test_list="test.txt"))
    assert [file.name for file in found.train[0]] == ["00.jpg (1).jpg"]


def test_a_folder_that_may_stand_beside_is_a_class_if_it_holds_images(tmp_path):
    make(tmp_path, {"labels/red": 2, "labels/blue": 2, "cat": 2})
    with pytest.raises(ValueError, match="folder 'labels' of .* but 2 folders of images"):
        scenario(tmp_path)


def test_a_broken_link_that_no_list_names_does_not_matter(tmp_path):
    root = make(tmp_path, {"a": 2, "b": 2})
    (root / "a/gone.jpg").symlink_to(root / "nowhere")
    (root / "train.txt").write_text("a/00.jpg\nb/00.jpg\n")
    (root / "test.txt").write_text("a/01.PNG\nb/01.PNG\n")
    assert len(scenario(root, train_list="train.txt", test_list="test.txt").tasks[0].train) == 2


def test_names_of_imagenets_folders(tmp_path):
    wnids = ("n01443537", "n02999999", "n03999999")
    root = make(tmp_path, {f"{part}/{w}": 1 for part in ("train", "val") for w in wnids})
    (root / "words.txt").write_text(
        "n00001740\tentity\nn01443537\tgoldfish, Carassius auratus\nn02999999\tfunny hat, hat\n"
    )
    (root / "val/val_annotations.txt").write_text("left behind by a script that moved the images\n")
    assert scenario(root).class_names == ["goldfish", "funny hat", "n03999999"]
    assert scenario(root, names="folders").class_names == list(wnids)


def test_names_are_texts_that_read_alike_when_they_are(tmp_path):
    root = make(tmp_path, {f"{part}/{c}": 1 for part in ("train", "test") for c in ("cafe\u0301", "_a_")})
    assert scenario(root).class_names == ["a", "caf\xe9"]
    make(root, {f"{part}/caf\xe9": 1 for part in ("train", "test")})
    with pytest.raises(ValueError, match="class name 'caf\xe9' stands for two classes"):
        scenario(root)
    other = make(tmp_path / "other", {f"{part}/{c}": 1 for part in ("train", "test") for c in ("__", "a")})
    with pytest.raises(ValueError, match="class folder '__' of .* gives an empty class name"):
        scenario(other)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0.jpg n2", "line 3: '0.jpg' is named before"),
        ("../x.jpg n1", "'../x.jpg' is no file's name"),
        ("/x n1", "'/x' is no file's name"),
    ],
)
def test_annotations_name_each_image_once_and_none_elsewhere(tmp_path, line, message):
    make(tmp_path, {"train/n1": 1, "train/n2": 1, "val/images": 2})
    (tmp_path / "val/val_annotations.txt").write_text(f"0.jpg n1\n1.jpg n2\n{line}\n")
    with pytest.raises(ValueError, match=message):
        load_collection(DataConfig(root=str(tmp_path)))


def test_files_nested_without_end_are_refused(tmp_path):
    root = make(tmp_path, {"a": 2, "b": 2})
    (root / "deep.yaml").write_text("data: " + "[" * 100_000)
    (root / "names.json").write_text("[" * 100_000)
    (root / "bounded.yaml").write_text("data: " + "[" * 30 + "]" * 30)  # sound YAML that no parser's own limit refuses
    with pytest.raises(ValueError, match="bounded.yaml is no YAML file: its lists are nested more than 20 deep"):
        load_collection(DataConfig(root=str(root), train_list="bounded.yaml", test_list="bounded.yaml"))
    # PyYAML from 6.0.4 on has a limit of its own, and its message; what counts is that the process does not end.
    with pytest.raises(
        ValueError, match=r"(?s)deep.yaml is no YAML file: (its lists are nested more than 20|.*maximum nesting)"
    ):
        load_collection(DataConfig(root=str(root), train_list="deep.yaml", test_list="deep.yaml"))
    with pytest.raises(ValueError, match="names.json is no JSON file"):
        load_collection(DataConfig(root=str(root), names_file="names.json"))


def test_accents_may_be_written_either_way(tmp_path):
    """macOS takes é apart; what is unpacked elsewhere, or typed into a list, does not."""
    apart = {name: unicodedata.normalize("NFD", name) for name in ("café", "naïve")}
    assert all(len(name) < len(other) for name, other in apart.items())
    parts = make(
        tmp_path / "parts", {f"train/{name}": 2 for name in apart.values()} | {f"test/{name}": 1 for name in apart}
    )
    assert [[len(task.train), len(task.test)] for task in scenario(parts).tasks] == [[4, 2]]
    (parts / "chosen.txt").write_text("naïve\ncafé\n")
    (parts / "names.json").write_text(json.dumps({"café": "coffee", apart["naïve"]: "simple"}))
    assert scenario(parts, class_list="chosen.txt").class_names == ["naïve", "café"]
    assert scenario(parts, names_file="names.json").class_names == ["coffee", "simple"]
    flat = make(tmp_path / "flat", dict.fromkeys(apart.values(), 2))
    (flat / "train.txt").write_text("café/00.jpg\nnaïve/00\n")
    (flat / "test.txt").write_text(f"café/01.PNG\n{apart['naïve']}/01\n")
    found = scenario(flat, train_list="train.txt", test_list="test.txt")
    assert [[len(task.train), len(task.test)] for task in found.tasks] == [[2, 2]]
    make(parts, {"test/thé": 1})
    with pytest.raises(ValueError, match="class folder 'thé' is in test/ but not in train/"):
        scenario(parts)
