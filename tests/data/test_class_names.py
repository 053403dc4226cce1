"""Class names: from folders, from a file, and with accents written either way."""

import json
import unicodedata

import pytest
from trees import make, scenario

from segp_ext.data.class_names import class_name


def test_class_names_from_folders():
    assert class_name("red_fox") == "red fox" and class_name("__x__y ") == "x y"


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
    with pytest.raises(ValueError, match="names.json is not a JSON file"):
        scenario(tmp_path, names_file="names.json")


def test_names_are_texts_that_read_alike_when_they_are(tmp_path):
    root = make(tmp_path, {f"{part}/{c}": 1 for part in ("train", "test") for c in ("cafe\u0301", "_a_")})
    assert scenario(root).class_names == ["a", "caf\xe9"]
    make(root, {f"{part}/caf\xe9": 1 for part in ("train", "test")})
    with pytest.raises(ValueError, match="class name 'caf\xe9' stands for two classes"):
        scenario(root)
    other = make(tmp_path / "other", {f"{part}/{c}": 1 for part in ("train", "test") for c in ("__", "a")})
    with pytest.raises(ValueError, match="class folder '__' of .* gives an empty class name"):
        scenario(other)


def test_accents_may_be_written_either_way(tmp_path):
    """macOS writes é as two characters. Archives unpacked elsewhere, and lists typed by hand, have one."""
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
