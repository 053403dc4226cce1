"""Lists that name every image: none twice, none elsewhere, no part empty."""

import pytest
from public_trees import write_images

from segp_ext.config import DataConfig
from segp_ext.data.image_lists import ImageList, ImageLists, listed_tree

ABOVE = [("../a.jpg", "cat"), ("/a.jpg", "cat"), ("x/../../a.jpg", "cat"), ("x\\..\\a.jpg", "cat"), ("", "cat")]


def tree(base, train, test):
    lists = ImageLists(["cat", "dog"], {"train": ImageList("t.txt", train), "test": ImageList("h.txt", test)}, "lists")
    return listed_tree(base, base / "images", lists, DataConfig(class_list=str(base / "classes.txt")))


def test_listed_images_of_the_chosen_classes(tmp_path):
    write_images(tmp_path / "images", ["a.jpg", "b.jpg", "unlisted.jpg"])
    (tmp_path / "classes.txt").write_text("dog\n")
    found = tree(tmp_path, [("a.jpg", "cat"), ("b.jpg", "dog")], [("c.jpg", "dog"), ("gone.jpg", "cat")])
    assert found.train == {"dog": [tmp_path / "images/b.jpg"]} and found.test == {"dog": []}
    assert found.missing == ["images/c.jpg (in h.txt)"] and found.stray == [] and found.validation == {}


@pytest.mark.parametrize("entry", ABOVE)
def test_no_list_leads_out_of_the_data_set(tmp_path, entry):
    (tmp_path / "classes.txt").write_text("dog\n")
    with pytest.raises(ValueError, match="t.txt: .* is not a path of an image in .*images"):
        tree(tmp_path, [entry], [("b.jpg", "dog")])


def test_an_image_that_is_named_again_and_a_part_without_images(tmp_path):
    (tmp_path / "classes.txt").write_text("dog\n")
    with pytest.raises(ValueError, match=r"h.txt names a.jpg, which t.txt named before"):
        tree(tmp_path, [("a.jpg", "dog")], [("a.jpg", "dog")])
    with pytest.raises(ValueError, match="h.txt names no test image"):
        tree(tmp_path, [("a.jpg", "dog")], [])
