"""Caltech101, EuroSAT and SUN397: which folders are classes, how they are split, and what is wrong with them."""

import pytest
from public_trees import torchvision_tree
from trees import make, scenario


def test_the_background_of_caltech_is_no_class_and_both_kinds_of_faces_are(tmp_path):
    folders = ["BACKGROUND_Google", "Faces", "Faces_easy", "Leopards", "Motorbikes", "airplanes", "yin_yang"]
    make(tmp_path / "caltech101/101_ObjectCategories", dict.fromkeys(folders, 4))
    found = scenario(tmp_path, name="caltech101", test_fraction=0.5)
    assert found.layout == (
        "Caltech101: 101_ObjectCategories/ of <class>/ folders without a split; 50 % of each class held out, seed 0"
    )
    assert found.class_names == ["face", "centered face", "leopard", "motorbike", "airplane", "yin yang"]
    assert [(len(task.train), len(task.test)) for task in found.tasks] == [(4, 4)] * 3
    assert scenario(tmp_path, name="caltech101", names="folders").class_names == folders[1:]


@pytest.mark.parametrize(
    ("name", "folder"), [("caltech101", "caltech101/101_ObjectCategories"), ("eurosat", "eurosat/2750")]
)
def test_folders_that_cannot_be_split_are_named(tmp_path, name, folder):
    (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=f"no class folders in .*{folder}'; there: nothing; accepted: <root>/"):
        scenario(tmp_path, name=name)
    make(tmp_path / folder, {"a": 2, "b": 1})
    with pytest.raises(
        ValueError, match=r"class folder 'b' of .* holds 1 image\(s\); at least 2 are needed to split it"
    ):
        scenario(tmp_path, name=name)


def test_caltech_of_a_background_alone_has_no_class(tmp_path):
    make(tmp_path / "caltech101/101_ObjectCategories", {"BACKGROUND_Google": 2})
    with pytest.raises(FileNotFoundError, match="no class folders in .*there: BACKGROUND_Google/; accepted: <root>/"):
        scenario(tmp_path, name="caltech101")


def test_scenes_keep_their_paths_where_asked(tmp_path):
    torchvision_tree(tmp_path, "sun397")
    names = scenario(tmp_path, name="sun397", names="folders").class_names
    assert names == ["a/abbey", "a/apartment_building/outdoor", "b/bow_window/indoor"]


@pytest.mark.parametrize(
    ("text", "got"), [("", "'no line'"), ("/a/abbey\n/../../etc\n", "'../../etc'"), ("abbey\n", "'abbey'")]
)
def test_a_damaged_list_of_scenes_is_named(tmp_path, text, got):
    (torchvision_tree(tmp_path, "sun397") / "ClassName.txt").write_text(text)
    with pytest.raises(ValueError, match=f"ClassName.txt must have one class per line, such as /a/abbey; got {got}"):
        scenario(tmp_path, name="sun397")


def test_only_the_scenes_that_are_chosen_need_be_there(tmp_path):
    own = torchvision_tree(tmp_path, "sun397")
    (own / "b/bow_window").rename(own / "b/moved")
    (own / "classes.txt").write_text("a/abbey\na/apartment_building/outdoor\n")
    assert scenario(tmp_path, name="sun397", class_list="classes.txt").class_names[0] == "abbey"
    with pytest.raises(FileNotFoundError, match="no complete SUN397 in .*: b/bow_window/indoor/ not found"):
        scenario(tmp_path, name="sun397")
