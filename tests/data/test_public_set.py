"""Public data sets: both layouts of each are found from above and from within, and what is missing is named with where it comes from."""

import shutil

import pytest
from public_trees import (
    CLASSES,
    COOP,
    COUNTS,
    FILES,
    NAMES,
    SPLITS,
    TORCHVISION,
    coop_tree,
    eleven_trees,
    rows_of,
    torchvision_tree,
)
from trees import scenario

from segp_ext import doctor
from segp_ext.config import DataConfig
from segp_ext.data import load_collection
from segp_ext.data.public_set import SPLITS_PAGE

VALIDATED = {"aircraft", "dtd", "flowers102"}
"""Data sets whose own lists have a validation part."""
UNSPLIT = {"caltech101", "eurosat", "sun397"}
"""Data sets whose own files have no split."""
NEEDED = {
    "aircraft": ["images", "variants.txt", "images_variant_train.txt", "images_variant_val.txt", "images_variant_test.txt"],
    "caltech101": ["101_ObjectCategories"],
    "dtd": ["images", "labels/train1.txt", "labels/val1.txt", "labels/test1.txt"],
    "eurosat": ["2750"],
    "flowers102": ["jpg", "imagelabels.mat", "setid.mat"],
    "food101": ["images", "meta/train.json", "meta/test.json"],
    "oxford-pets": ["images", "annotations/trainval.txt", "annotations/test.txt"],
    "stanford-cars": [
        "cars_train", "cars_test", "devkit/cars_meta.mat", "devkit/cars_train_annos.mat", "cars_test_annos_withlabels.mat",
    ],
    "sun397": ["ClassName.txt", "a/abbey", "a/apartment_building/outdoor"],
}  # fmt: skip
"""The files and folders that torchvision's layout of each data set cannot do without."""


def load(root, name, **settings):
    return load_collection(DataConfig(name=name, root=str(root), **settings))


def files(collection, folder):
    """The images of each part and class, by path from the data set's folder."""
    return {
        part: [[path.relative_to(folder).as_posix() for path in of_class] for of_class in images]
        for part, images in collection.parts().items()
    }


def expected(name, *parts):
    """The images of these parts, by class."""
    rows = rows_of(name, CLASSES[name])
    return [[file for part, c, file in rows if part in parts and c == number] for number in range(3)]


def alike(one, other):
    """Whether each class has the same images, in any order."""
    return [sorted(of_class) for of_class in one] == [sorted(of_class) for of_class in other]


@pytest.mark.parametrize("name", FILES)
def test_torchvisions_layout(tmp_path, name):
    own = torchvision_tree(tmp_path, name)
    found = load(tmp_path, name)
    assert found.name == name and found.class_names == NAMES[name]
    images = files(found, tmp_path if name == "sun397" else own)
    if name in UNSPLIT:
        assert "without a split; 30 % of each class held out, seed 0" in found.layout
        assert [sorted(a + b) for a, b in zip(images["train"], images["test"], strict=True)] == [
            sorted(of_class) for of_class in expected(name, "train", "val", "test")
        ]
        assert [len(of_class) for of_class in images["test"]] == [1, 1, 1]
    else:
        assert "(torchvision's" in found.layout and images["test"] == expected(name, "test")
        held = () if name in VALIDATED else ("val",)
        assert alike(images["train"], expected(name, "train", *held))
    assert images.get("validation") == (expected(name, "val") if name in VALIDATED else None)
    assert found.missing == found.stray == [] and found.opener(found.train[0][0]).size == (5, 6)
    assert scenario(own, name=name).split_hash == scenario(tmp_path, name=name).split_hash


@pytest.mark.parametrize("name", FILES)
def test_coops_layout(tmp_path, name):
    own = coop_tree(tmp_path, name)
    found = load(tmp_path, name)
    assert found.name == name and found.class_names == NAMES[name] and "CoOp's)" in found.layout
    assert files(found, own) == {
        "train": expected(name, "train"), "test": expected(name, "test"), "validation": expected(name, "val")
    }  # fmt: skip
    assert scenario(own, name=name).split_hash == scenario(tmp_path, name=name).split_hash
    task = scenario(tmp_path, name=name, classes_per_task=3, evaluate_on="validation").tasks[0]
    assert task.train.sources == [path for of_class in found.train for path in of_class]
    assert task.test.sources == [path for of_class in found.validation for path in of_class]


@pytest.mark.parametrize("name", SPLITS)
def test_coops_split_decides_where_both_layouts_are(tmp_path, name):
    torchvision_tree(tmp_path / "a", name)
    coop_tree(tmp_path / "b", name)
    shutil.copytree(tmp_path / "b", tmp_path / "a", dirs_exist_ok=True)
    assert SPLITS[name][0] in load(tmp_path / "a", name).layout


@pytest.mark.parametrize("name", SPLITS)
def test_coops_folder_without_its_split_goes_by_the_own_lists(tmp_path, name):
    own = torchvision_tree(tmp_path / "a", name)
    shutil.copytree(own, tmp_path / "b" / COOP[name] / ("SUN397" if name == "sun397" else ""))
    found = load(tmp_path / "b", name)
    assert found.class_names == NAMES[name] and found.layout == load(tmp_path / "a", name).layout


@pytest.mark.parametrize(("name", "file"), [(name, file) for name, needed in NEEDED.items() for file in needed])
def test_a_file_that_is_missing_is_named_with_where_it_comes_from(tmp_path, name, file):
    own = torchvision_tree(tmp_path, name)
    shutil.rmtree(own / file) if (own / file).is_dir() else (own / file).unlink()
    with pytest.raises(FileNotFoundError) as refused:
        scenario(tmp_path, name=name)
    said = str(refused.value)
    assert said.startswith("data.root: no complete ") and f": {file}" in said and "; there: " in said
    assert "; accepted: <root>/" in said and "Download: " in said and "https://" in said
    assert (SPLITS_PAGE in said) == (name in SPLITS)


def test_the_doctor_says_what_is_there_and_what_is_missing(tmp_path, capsys):
    own = torchvision_tree(tmp_path, "flowers102")
    arguments = [f"--data.root={tmp_path}", "--data.name=flowers102", "--quick"]
    assert doctor.main(arguments) == 0
    said = capsys.readouterr().out
    assert "layout         Flowers102: imagelabels.mat and setid.mat (torchvision's)" in said
    assert "validation     3 images; per class 1 to 1" in said
    assert "training + test + validation\n  pink primrose              2 + 1 + 1" in said
    (own / "setid.mat").unlink()
    assert doctor.main(arguments) == 1
    assert "setid.mat not found; there: imagelabels.mat, jpg/; accepted: <root>/flowers-102/" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["flowers102", "stanford-cars"])
def test_a_folder_of_all_images_is_no_folder_of_each_class(tmp_path, name, capsys):
    torchvision_tree(tmp_path, name)
    assert doctor.main([f"--data.root={tmp_path}", f"--data.name={name}", "--quick"]) == 0
    assert "No problems found" in capsys.readouterr().out


@pytest.mark.parametrize("name", FILES)
def test_an_image_that_is_missing_is_named(tmp_path, name):
    own = coop_tree(tmp_path, name)
    gone = expected(name, "val")[1][0]
    (own / gone).unlink()
    assert load(tmp_path, name).missing[0].startswith(f"{gone} (in ")
    with pytest.raises(FileNotFoundError, match=r"1 image\(s\) are listed or linked but not in"):
        scenario(tmp_path, name=name)
    with (
        pytest.raises(ValueError, match="has no validation image"),
        pytest.warns(RuntimeWarning, match="were left out"),
    ):
        scenario(tmp_path, name=name, unreadable="skip", evaluate_on="validation")


@pytest.mark.parametrize("make_tree", [torchvision_tree, coop_tree])
def test_classes_may_be_chosen_named_and_left_as_they_are(tmp_path, make_tree):
    own = make_tree(tmp_path, "food101")
    (own / "classes.txt").write_text("waffles\napple_pie\n")
    assert load(own, "food101", class_list="classes.txt", names="folders").class_names == ["waffles", "apple_pie"]
    (own / "names.json").write_text('{"apple_pie": "pie", "baby_back_ribs": "ribs", "waffles": ["waffle", "x"]}')
    assert load(own, "food101", names_file="names.json").class_names == ["pie", "ribs", "waffle"]


def test_the_eleven_data_sets_have_1201_classes(tmp_path):
    eleven_trees(tmp_path)
    assert set(COUNTS) == {*TORCHVISION, "cifar100"} and sum(COUNTS.values()) == 1201
    assert {name: len(load(tmp_path, name).class_names) for name in COUNTS} == COUNTS


@pytest.mark.parametrize("name", [*TORCHVISION, "digits", "cifar100"])
def test_lists_are_not_for_data_sets_that_have_a_split(name):
    with pytest.raises(ValueError, match=f"data.train_list is for data.name auto, folder, .*; got data.name {name}"):
        DataConfig(name=name, train_list="a.txt", test_list="b.txt")
