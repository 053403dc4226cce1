"""Aircraft, DTD, Food-101 and Oxford Pets: a damaged line of their lists is named."""

import pytest
from public_trees import torchvision_tree
from trees import scenario


@pytest.mark.parametrize(
    ("name", "file", "text", "message"),
    [
        ("aircraft", "images_variant_val.txt", "0000001\n",
         "images_variant_val.txt, line 1: an image and a variant of variants.txt are needed; got '0000001'"),
        ("aircraft", "images_variant_test.txt", "0000004 707-320\n0000008 Concorde\n", "line 2: an image and a variant"),
        ("aircraft", "variants.txt", "", "images_variant_train.txt, line 1: an image and a variant of variants.txt"),
        ("dtd", "labels/train1.txt", "banded\n", "train1.txt, line 1: CLASS/FILE are needed; got 'banded'"),
        ("dtd", "labels/test1.txt", "\n", "test1.txt names no test image"),
        ("dtd", "labels/val1.txt", "\0", "val1.txt is not a text file"),
        ("food101", "meta/test.json", "<html>", "test.json is not a JSON file"),
        ("food101", "meta/test.json", '["a"]', "test.json must hold a list of images for each class"),
        ("food101", "meta/train.json", '{"waffles": [1]}', "train.json must hold a list of images for each class"),
        ("oxford-pets", "annotations/test.txt", "Abyssinian_4\n", "test.txt, line 1: BREED_NUMBER and the number of its class"),
        ("oxford-pets", "annotations/test.txt", "Abyssinian 1 1 1\n", "test.txt, line 1: BREED_NUMBER and the number"),
        ("oxford-pets", "annotations/test.txt", "Abyssinian_4 3 1 1\n", "line 1: images of Abyssinian, class 1, are needed"),
        ("oxford-pets", "annotations/test.txt", "Sphynx_4 1 1 1\n", "test.txt give several breeds one class number"),
    ],
)  # fmt: skip
def test_a_damaged_list_is_named(tmp_path, name, file, text, message):
    (torchvision_tree(tmp_path, name) / file).write_text(text)
    with pytest.raises(ValueError, match=message):
        scenario(tmp_path, name=name)


def test_names_as_the_data_set_has_them(tmp_path):
    torchvision_tree(tmp_path, "oxford-pets")
    found = scenario(tmp_path, name="oxford-pets", names="folders")
    assert found.class_names == ["Abyssinian", "american_bulldog", "Bengal"]
