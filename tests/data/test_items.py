"""Data sets that users hand over: their items and labels, and what is refused."""

import numpy as np
import pytest
import torch
from PIL import Image
from reading import pixels_of, reader
from torchvision.datasets import ImageFolder
from trees import make

from segp_ext.data.images import Images
from segp_ext.data.items import labels_of
from segp_ext.data.scenario import LabelledImages


class Columns:
    """A data set like Hugging Face's: items are dicts, and a name gives a column."""

    def __init__(self):
        self.column_names, self.decoded = ["image", "label"], 0

    def __len__(self):
        return 4

    def __getitem__(self, key):
        if key == "label":
            return [0, 1, 0, 1]
        self.decoded += 1
        return {"image": np.full((3, 4, 4), key, np.uint8), "label": key % 2}


def test_items_may_be_dicts():
    data = Columns()
    images = Images(data, reader())
    assert images.labels.tolist() == [0, 1, 0, 1] and data.decoded == 0
    assert pixels_of(images, [3, 1]) == [([3, 1], [3, 1])]
    plain = [{"img": np.zeros((3, 4, 4), np.uint8), "label": i} for i in range(3)]
    assert Images(plain, reader()).labels.tolist() == [0, 1, 2]


class Streamed(torch.utils.data.IterableDataset):
    """A data set with a length, whose inherited index only raises NotImplementedError."""

    def __len__(self):
        return 2

    def __iter__(self):
        yield from [(np.zeros((3, 4, 4), np.uint8), 0)] * 2


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (
            "photos/cats",
            r"got the path 'photos/cats'. segp_ext.data.load_scenario\(DataConfig\(root='photos/cats'\)\) reads a folder",
        ),
        (torch.utils.data.DataLoader([(1, 2)]), "got a DataLoader: give its .dataset"),
        (((i, 0) for i in range(3)), r"a map-style data set is needed.*got generator. list\(...\)"),
        ({"a": 1}, "a map-style data set is needed.*got dict"),
        (
            [(7, np.zeros((3, 4, 4)), 0)],
            r"item 0 must be \(image, label\); got 3 things \(int, ndarray, int\); wrap the data set in one",
        ),
        (
            (np.zeros((5, 3, 4, 4)), np.arange(5)),
            r"got a pair of all images and all labels: give list\(zip\(images, labels",
        ),
        ([[Image.new("RGB", (4, 4))] * 2, [0, 1]], "got a pair of all images and all labels"),
        ((torch.zeros(2, 3, 4, 4), torch.arange(2)), "got a pair of all images and all labels"),
        (Streamed(), "a map-style data set is needed.*got Streamed"),
        ([np.zeros((3, 4, 4))], r"item 0 must be \(image, label\); got ndarray"),
        ([{"pixels": 1, "label": 0}], "item 0 must have the keys image and label; it has pixels, label"),
    ],
)
def test_what_is_no_data_set_is_told_what_is(dataset, message):
    with pytest.raises(TypeError, match=message):
        Images(dataset, reader())


def test_parts_of_data_sets_and_joined_ones():
    whole = [(np.full((3, 4, 4), i, np.uint8), i % 2) for i in range(6)]
    parts = torch.utils.data.random_split(whole, [4, 2], torch.Generator().manual_seed(0))
    joined = torch.utils.data.ConcatDataset([parts[1], torch.utils.data.Subset(parts[0], [3, 0])])
    expected = [
        i for part, among in ((parts[1], (0, 1)), (parts[0], (3, 0))) for i in np.array(part.indices)[list(among)]
    ]
    images = Images(joined, reader())
    assert images.labels.tolist() == [i % 2 for i in expected]
    assert pixels_of(images, [0, 1, 2, 3]) == [([0, 1, 2, 3], expected)]


@pytest.mark.parametrize("listed", [True, False])
def test_an_item_that_raises_is_named(listed):
    class Broken(list):
        def __len__(self):
            return 9

    broken = Broken([(np.zeros((3, 4, 4), np.uint8), 0)] * 4)
    if listed:
        broken.targets = [0] * 9
    with pytest.raises(IndexError) as raised:
        pixels_of(Images(broken, reader()), [3, 4])
    assert raised.value.__notes__ == ["raised by item 4 of the data set, whose length is 9"]


def test_reading_what_draws_nothing_leaves_the_generators_alone(monkeypatch):
    monkeypatch.setattr("segp_ext.data.items.seeded", None)
    dataset = LabelledImages([np.full((3, 4, 4), value, np.uint8) for value in (0, 10)], [0, 1], lambda image: image)
    assert pixels_of(Images(dataset, reader()), [0, 1]) == [([0, 1], [0, 10])]


@pytest.mark.parametrize(
    "labels",
    [
        {"a": 0},
        {0, 1},
        lambda: [0, 1],
        "01",
        ["cat", "dog"],
        np.array(["cat", "dog"]),
        [0, 1, 0, 1],
        ["cat"],
        [],
        torch.tensor(1),
    ],
)
def test_labels_that_list_nothing_are_passed_by(labels):
    """For example the names of the classes, or the labels of all images behind a subset."""

    class Odd:
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return np.zeros((3, 4, 4), np.uint8), 1 - index

    odd = Odd()
    odd.labels = labels
    assert labels_of(odd).tolist() == [1, 0]


@pytest.mark.parametrize(
    "kind", [int, np.int64, torch.tensor, lambda label: torch.tensor([label]), lambda label: np.array([label])]
)
def test_labels_are_whole_numbers_of_any_kind(kind):
    items = [(np.zeros((3, 4, 4), np.uint8), kind(label)) for label in (1, 0)]
    assert labels_of(items).tolist() == Images(items, reader()).labels.tolist() == [1, 0]


@pytest.mark.parametrize("label", [True, np.array([True]), torch.tensor([True]), np.array([0.5])])
def test_labels_that_are_no_whole_numbers_are_refused(label):
    with pytest.raises(TypeError, match="labels must be integers; got torch"):
        labels_of([(np.zeros((3, 4, 4), np.uint8), label)] * 2)


def test_labels_without_an_attribute_are_read_from_the_items():
    class Plain:
        def __len__(self):
            return 3

        def __getitem__(self, index):
            return None, index * 2

    assert labels_of(Plain()).tolist() == [0, 2, 4]


def test_labels_that_a_transform_changes_are_read_from_the_items(tmp_path):
    """torchvision's data sets keep the labels of their files in `targets`, and change labels as items are read."""
    folder = make(tmp_path, {"a": 1, "b": 2})
    assert labels_of(ImageFolder(folder)).tolist() == [0, 1, 1]
    assert labels_of(ImageFolder(folder, target_transform=lambda label: 1 - label)).tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        ([[0], [1], [2]], ValueError, r"got \[3, 1\]"),
        ([0.5, 1.0, 2.0], TypeError, "labels must be integers; got torch.float32"),
        (["a", "b", "c"], TypeError, "labels must be integers; got .*'a'"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels, error, message):
    dataset = LabelledImages([0, 1, 2], [0, 1, 2], lambda image: image)
    dataset.labels = labels
    with pytest.raises(error, match=message):
        labels_of(dataset)
