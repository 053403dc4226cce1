"""Flowers102 and Stanford Cars: class names, and every fault of a MATLAB file named."""

import json

import numpy as np
import pytest
from public_trees import annotations, cells, torchvision_tree
from scipy.io import savemat
from torchvision.datasets import Flowers102
from trees import scenario

from segp_ext.config import DataConfig
from segp_ext.data import load_collection


def test_flowers_have_torchvisions_names_or_those_of_coops_table(tmp_path):
    own = torchvision_tree(tmp_path, "flowers102", [""] * 102)
    config = DataConfig(name="flowers102", root=str(tmp_path))
    names = load_collection(config).class_names
    assert [name.rstrip("?") for name in Flowers102.classes] == names and not any("?" in name for name in names)
    table = {str(number): f"flower {number}" for number in range(102, 0, -1)}
    (own / "cat_to_name.json").write_text(json.dumps(table))
    assert load_collection(config).class_names == [f"flower {number}" for number in range(1, 103)]


@pytest.mark.parametrize("table", [{}, {"1": "rose", "3": "lily"}, {"0": "rose", "1": "lily"}, {"1": 1}, ["rose"]])
def test_a_table_of_other_names_is_named(tmp_path, table):
    own = torchvision_tree(tmp_path, "flowers102")
    (own / "cat_to_name.json").write_text(json.dumps(table))
    with pytest.raises(ValueError, match="cat_to_name.json must hold the name of each class by its number from 1"):
        scenario(tmp_path, name="flowers102")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("imagelabels.mat", b"not MATLAB's", "imagelabels.mat cannot be read as a MATLAB file"),
        ("imagelabels.mat", b"", "imagelabels.mat cannot be read as a MATLAB file"),
        ("imagelabels.mat", {"label": [1]}, "imagelabels.mat has no variable labels"),
        ("imagelabels.mat", {"labels": np.ones((2, 2), int)}, r"labels must be a row of whole numbers; got int64 \[2, 2\]"),
        ("imagelabels.mat", {"labels": [0.5]}, r"labels must be a row of whole numbers; got float64 \[1\]"),
        ("imagelabels.mat", {"labels": [1, 103]}, "labels must be from 1 to 102; got 1 to 103"),
        ("setid.mat", {"trnid": [1], "valid": [2]}, "setid.mat has no variable tstid"),
        ("setid.mat", {"trnid": [13], "valid": [2], "tstid": [3]}, "trnid must be from 1 to 12; got 13 to 13"),
        ("setid.mat", {"trnid": [1], "valid": [2], "tstid": [2]}, "setid.mat names image_00002.jpg, which setid.mat named before"),
    ],
)  # fmt: skip
def test_a_damaged_list_of_flowers_is_named(tmp_path, file, content, message):
    own = torchvision_tree(tmp_path, "flowers102")
    if isinstance(content, bytes):
        (own / file).write_bytes(content)
    else:
        savemat(own / file, content)
    with pytest.raises(ValueError, match=message):
        scenario(tmp_path, name="flowers102")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("devkit/cars_meta.mat", {"class_names": [1, 2]}, "cars_meta.mat: class_names must be strings"),
        ("devkit/cars_train_annos.mat", {"annotations": [1]}, "annotations must have the fields fname and class"),
        ("cars_test_annos_withlabels.mat", {"annotations": annotations([("x.jpg", 0), ("y.jpg", 3)])},
         "withlabels.mat, annotation 2: a file's name and a class from 1 to 3 are needed; got .*'y.jpg', 4"),
        ("cars_test_annos_withlabels.mat", {"annotations": annotations([("00004.jpg", 0)])}, "class .* of stanford-cars has no test image"),
    ],
)  # fmt: skip
def test_a_damaged_list_of_cars_is_named(tmp_path, file, content, message):
    savemat(torchvision_tree(tmp_path, "stanford-cars") / file, content)
    with pytest.raises(ValueError, match=message):
        scenario(tmp_path, name="stanford-cars")


def test_cars_keep_their_names_where_asked_and_a_name_without_a_year_stays(tmp_path):
    own = torchvision_tree(tmp_path, "stanford-cars")
    names = ["Fisker Karma Sedan 2012", "Ford", "Audi 100"]
    savemat(own / "devkit/cars_meta.mat", {"class_names": cells(names)})
    assert scenario(tmp_path, name="stanford-cars", names="folders").class_names == names
    found = scenario(tmp_path, name="stanford-cars").class_names
    assert found == ["2012 Fisker Karma Sedan", "Ford", "100 Audi"]
