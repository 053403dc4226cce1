"""Class folders: where they are looked for, which folders count, and which classes are taken."""

import pytest
from trees import make, scenario

from segp_ext.config import DataConfig
from segp_ext.data import load_collection, load_scenario


def test_missing_root():
    with pytest.raises(FileNotFoundError, match="data.root: no folder 'no/such/place'; accepted: <root>/train"):
        scenario("no/such/place")
    with pytest.raises(FileNotFoundError, match="data.root is not set.*--data.root"):
        load_scenario(DataConfig(name="folder"))


@pytest.mark.parametrize(
    ("places", "beside"), [(("birds", "train/birds"), {"test/a": 1}), (("birds", "fish"), {}), (("birds",), {"cat": 2})]
)
def test_a_root_above_several_data_sets_is_named(tmp_path, places, beside):
    sets = {f"{place}/{part}/{c}": 2 for place in places for part in ("train", "test") for c in "ab"}
    make(tmp_path, {**sets, **beside})
    with pytest.raises(
        ValueError, match=r"folder 'birds' of .* holds train/, so it is a data set, not a class; give '.*/birds'"
    ):
        scenario(tmp_path)


def test_a_class_may_be_named_like_a_part(tmp_path):
    found = load_collection(DataConfig(root=str(make(tmp_path, {"train": 4, "car": 4, "test": 4}))))
    assert found.class_names == ["car", "test", "train"] and sum(map(len, found.train)) == 9
    inside = load_collection(
        DataConfig(root=str(make(tmp_path / "inside", {"train/images": 4, "car/images": 4, "plane/images": 4})))
    )
    assert inside.class_names == ["car", "plane", "train"]


def test_a_folder_that_may_stand_beside_is_a_class_if_it_holds_images(tmp_path):
    make(tmp_path, {"labels/red": 2, "labels/blue": 2, "cat": 2})
    with pytest.raises(ValueError, match="folder 'labels' of .* but 2 folders of images"):
        scenario(tmp_path)


@pytest.mark.parametrize("first", ["# all", "class", "0 a", "a,0", '["a", "b"]'])
def test_a_class_list_of_another_form_says_which_is_taken(tmp_path, first):
    root = make(tmp_path, {"a": 2, "b": 2})
    (root / "classes.txt").write_text(f"{first}\nb\n")
    with pytest.raises(
        ValueError, match="names .*, but the class folders of .* are a, b. The list must have one class folder per line"
    ):
        load_collection(DataConfig(root=str(root), class_list="classes.txt"))
