"""The lines of list files: the forms that are common, and files that are not lists."""

import pytest
from trees import make, scenario, split

from segp_ext.config import DataConfig
from segp_ext.data import load_collection


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


def test_quoted_and_separated_entries_of_lists(tmp_path):
    root = make(tmp_path, {"a": 2, "b": 2})
    (root / "train.txt").write_text("\"a/00.jpg\";0\n'b/00.jpg'\n")
    (root / "test.txt").write_text("a/01.PNG|0\nb/01.PNG;1\n")
    found = scenario(root, train_list="train.txt", test_list="test.txt")
    assert (len(found.tasks[0].train), len(found.tasks[0].test)) == (2, 2)


@pytest.mark.parametrize("after", ["", " 0", ",0", "\t0"])
def test_an_ending_within_a_name_of_a_list(tmp_path, after):
    root = make(tmp_path, {"a": 2, "b": 2})
    (root / "a/00.jpg (1).jpg").write_bytes((root / "a/00.jpg").read_bytes())
    (root / "train.txt").write_text(f"a/00.jpg (1).jpg{after}\nb/00.jpg{after}\n")
    (root / "test.txt").write_text("a/01.PNG\nb/01.PNG\n")
    found = load_collection(DataConfig(root=str(root), train_list="train.txt", test_list="test.txt"))
    assert [file.name for file in found.train[0]] == ["00.jpg (1).jpg"]


def test_a_mask_beside_an_image_is_not_part_of_its_name(tmp_path):
    root = make(tmp_path, {"a": 2, "b": 2})
    found = split(root, ["a/00.jpg,mask.png", "b/00.jpg,mask.png"], ["a/01.PNG", "b/01.PNG"])
    assert [[file.name for file in files] for files in found.train] == [["00.jpg"], ["00.jpg"]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "data.train_list: .*train.txt is empty; a list names one image per line"),
        ("# by hand\n", "train.txt is empty"),
        ('[\n"a/00.jpg"\n]', "train.txt looks like JSON; a list has one path per line, or is a YAML file"),
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


def test_files_nested_without_end_are_refused(tmp_path):
    root = make(tmp_path, {"a": 2, "b": 2})
    (root / "deep.yaml").write_text("data: " + "[" * 100_000)
    (root / "names.json").write_text("[" * 100_000)
    (root / "bounded.yaml").write_text("data: " + "[" * 30 + "]" * 30)  # sound YAML that no parser's own limit refuses
    with pytest.raises(ValueError, match="bounded.yaml is not a YAML file: its lists are nested more than 20 deep"):
        load_collection(DataConfig(root=str(root), train_list="bounded.yaml", test_list="bounded.yaml"))
    # PyYAML from 6.0.4 on has a limit of its own, and its message; what counts is that the process does not end.
    with pytest.raises(
        ValueError, match=r"(?s)deep.yaml is not a YAML file: (its lists are nested more than 20|.*maximum nesting)"
    ):
        load_collection(DataConfig(root=str(root), train_list="deep.yaml", test_list="deep.yaml"))
    with pytest.raises(ValueError, match="names.json is not a JSON file"):
        load_collection(DataConfig(root=str(root), names_file="names.json"))
