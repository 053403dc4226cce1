"""Decoding to pixels in memory, or anew on every pass."""

import numpy as np
import pytest
import torch
from PIL import Image

from segp_ext.data import images as module
from segp_ext.data.images import Images, labels_of, to_pil
from segp_ext.data.scenario import LabelledImages


def halve(image):
    return torch.from_numpy(np.asarray(image)[::2, ::2].transpose(2, 0, 1).copy())


@pytest.fixture
def dataset():
    pixels = [np.full((3, 4, 4), 10 * i, np.uint8) for i in range(7)]
    return LabelledImages(pixels, [0, 1, 2, 0, 1, 2, 0], lambda image: image)


@pytest.mark.parametrize("limit", [1 << 30, 0])
def test_the_same_pixels_kept_or_decoded_anew(dataset, monkeypatch, limit):
    monkeypatch.setattr(module, "MEMORY_LIMIT", limit)
    images = Images(dataset, halve)
    assert len(images) == 7 and images.labels.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert images.take(torch.tensor([5, 0, 5]))[:, 0, 0, 0].tolist() == [50, 0, 50]
    seen = list(images.batches(3, torch.tensor([6, 2, 4, 0])))
    assert [i.tolist() for i, _ in seen] == [[6, 2, 4], [0]]
    assert [p[:, 1, 1, 1].tolist() for _, p in seen] == [[60, 20, 40], [0]]
    assert torch.cat([p for _, p in images.batches(4)])[:, 0, 0, 0].tolist() == [0, 10, 20, 30, 40, 50, 60]
    assert all(p.dtype == torch.uint8 and p.shape[1:] == (3, 2, 2) for _, p in images.batches(4))


def test_images_are_decoded_once_when_they_fit():
    opened = []
    Images(LabelledImages(list(range(5)), [0] * 5, lambda i: opened.append(i) or np.zeros((3, 4, 4), np.uint8)), halve)
    assert sorted(opened) == [0, 0, 1, 2, 3, 4]  # the first also tells the size


def test_empty():
    images = Images(LabelledImages([], [], lambda image: image), halve)
    assert len(images) == 0 and list(images.batches(4)) == []


def test_labels_without_an_attribute_are_read_from_the_items():
    class Plain:
        def __len__(self):
            return 3

        def __getitem__(self, index):
            return None, index * 2

    assert labels_of(Plain()).tolist() == [0, 2, 4]


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        ([0, 1], ValueError, r"one label per image, \[3\]; got \[2\]"),
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


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "I;16"])
def test_any_pil_mode_becomes_rgb(mode):
    assert to_pil(Image.new(mode, (4, 3))).mode == "RGB"


def test_grey_pixels_fill_three_channels():
    image = to_pil(np.arange(6, dtype=np.uint8).reshape(1, 2, 3))
    np.testing.assert_array_equal(np.asarray(image)[..., 2], [[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (np.zeros((3, 4, 4)), TypeError, "x must hold uint8 pixels.*float64"),
        (np.zeros((4, 4), np.uint8), ValueError, r"x must be \[3, H, W\].*got \[4, 4\]"),
        (torch.zeros(2, 4, 4, dtype=torch.uint8), ValueError, r"got \[2, 4, 4\]"),
        ("picture.png", TypeError, "x must be a PIL image.*got str"),
    ],
)
def test_other_images_are_refused(image, error, message):
    with pytest.raises(error, match=message):
        to_pil(image, "x")
