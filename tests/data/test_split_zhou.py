"""CoOp's split files: parts, classes in the order of their labels, and every fault of a file named."""

import json

import pytest
from public_trees import coop_tree
from trees import scenario

from segp_ext.data.split_zhou import read_split_zhou

ONE = {
    "train": [["b/2.jpg", 1, "bee"], ["a/1.jpg", 0, "ant"]],
    "val": [["a/3.jpg", 0, "ant"]],
    "test": [["a/4.jpg", 0, "ant"], ["b/5.jpg", 1, "bee"]],
}


def test_labels_order_the_classes(tmp_path):
    path = tmp_path / "split_zhou_Insects.json"
    path.write_text(json.dumps(ONE))
    found = read_split_zhou(path)
    assert found.classes == ["ant", "bee"] and found.layout == "split_zhou_Insects.json (CoOp's)"
    assert list(found.parts) == ["train", "validation", "test"]
    assert found.parts["train"].images == [("b/2.jpg", "bee"), ("a/1.jpg", "ant")]
    path.write_text(json.dumps({**ONE, "val": []}), encoding="utf-8-sig")
    assert list(read_split_zhou(path).parts) == ["train", "test"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "split.json is not a JSON file"),
        ("[1]", "split.json must hold the lists train, val, test; it holds a list"),
        ('{"train": [], "test": []}', "must hold the lists train, val, test; it holds the keys train, test"),
        ('{"train": {}, "val": [], "test": []}', "must hold the lists train, val, test; it holds the keys train, val, test"),
        ({"val": [["a/3.jpg", 0]]}, r"entry 0 of val must be \[path, label, class name\]; got \['a/3.jpg', 0\]"),
        ({"test": [["a/4.jpg", "0", "ant"]]}, "entry 0 of test must be"),
        ({"test": [["a/4.jpg", True, "ant"]]}, "entry 0 of test must be"),
        ({"test": ["a/4.jpg"]}, "entry 0 of test must be"),
        ({"test": [["a/4.jpg", 0, "wasp"]]}, "label 0 has two class names, 'ant' and 'wasp'"),
        ({"test": [["a/4.jpg", 2, "ant"]]}, "class name ant has several labels"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_named_with_its_fault(tmp_path, content, message):
    text = content if isinstance(content, str) else json.dumps({**ONE, **content})
    (tmp_path / "split.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_split_zhou(tmp_path / "split.json")


def test_a_class_without_test_images_is_named(tmp_path):
    split = coop_tree(tmp_path, "dtd") / "split_zhou_DescribableTextures.json"
    content = json.loads(split.read_text())
    content["test"] = content["test"][1:]
    split.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="class 'banded' of dtd has no test image"):
        scenario(tmp_path, name="dtd")
