"""Pixels for the backbone: decoded once and kept in memory, or anew on every pass."""

import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image
from reading import pixels_of, reader

from segp_ext.data.decoding import open_image
from segp_ext.data.images import Images, ahead
from segp_ext.data.scenario import LabelledImages


@pytest.fixture
def dataset():
    pixels = [np.full((3, 4, 4), 10 * i, np.uint8) for i in range(7)]
    return LabelledImages(pixels, [0, 1, 2, 0, 1, 2, 0], lambda image: image)


@pytest.mark.parametrize("memory_gb", [1, 0])
@pytest.mark.parametrize("workers", [0, 2])
def test_the_same_pixels_kept_or_decoded_anew(dataset, memory_gb, workers):
    images = Images(dataset, reader(memory_gb=memory_gb, workers=workers))
    assert len(images) == 7 and images.labels.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert pixels_of(images, [5, 0, 5]) == [([5, 0, 5], [50, 0, 50])]
    assert pixels_of(images, [6, 2, 4], [0]) == [([6, 2, 4], [60, 20, 40]), ([0], [0])]
    whole = list(images.read(images.batches(4)))
    assert [i.tolist() for i, _ in whole] == [[0, 1, 2, 3], [4, 5, 6]]
    assert torch.cat([p for _, p in whole])[:, 0, 0, 0].tolist() == [0, 10, 20, 30, 40, 50, 60]
    assert all(p.dtype == torch.uint8 and p.shape[1:] == (3, 2, 2) for _, p in whole)


def counting():
    opened = []
    data = LabelledImages(list(range(5)), [0] * 5, lambda i: opened.append(i) or np.full((3, 4, 4), i, np.uint8))
    return data, opened


def test_an_image_is_decoded_when_it_is_read_and_only_once():
    data, opened = counting()
    images = Images(data, reader())
    assert opened == []
    assert pixels_of(images, [3, 1], [3, 2]) == [([3, 1], [3, 1]), ([3, 2], [3, 2])]
    assert sorted(opened) == [1, 2, 3, 3]  # the first also tells the size
    pixels_of(images, [0, 1, 2, 3, 4])
    assert sorted(opened) == [0, 1, 2, 3, 3, 4]


def test_memory_is_shared_and_given_back():
    shared = reader(memory_gb=100e-9)  # 100 bytes; five images take 60
    first, second = (Images(counting()[0], shared) for _ in range(2))
    pixels_of(first, [0])
    pixels_of(second, [0])
    assert shared.memory == 40
    del first
    assert shared.memory == 100
    data, opened = counting()
    third = Images(data, shared)
    pixels_of(third, [0], [0])
    assert opened == [0, 0] and pixels_of(second, [4], [4]) == [([4], [4])] * 2


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_drawn_at_random_is_the_same_on_every_pass(workers):
    """Kept or not, in any order, in any process, and in another run. The caller's generators are left alone."""

    class Random:
        def __len__(self):
            return 12

        def __getitem__(self, index):
            drawn = torch.randint(0, 256, ()), np.random.randint(256), random.randrange(256)  # noqa: NPY002
            return np.array(drawn, np.uint8).reshape(3, 1, 1).repeat(4, 1).repeat(4, 2), index % 2

    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002
    found = []
    for memory_gb in (1, 0):
        images = Images(Random(), reader(memory_gb=memory_gb, workers=workers))
        whole = torch.cat([pixels for _, pixels in images.read(images.batches(5))])
        for chunk, pixels in images.read([torch.tensor([7, 3]), torch.tensor([3, 11])]):
            assert torch.equal(whole[chunk], pixels)
        found.append(whole)
    resumed = Images(Random(), reader(memory_gb=0, workers=workers))
    assert torch.equal(found[0], found[1]) and torch.equal(next(resumed.read([torch.tensor([9])]))[1][0], found[0][9])
    assert all(len(found[0][:, channel, 0, 0].unique()) > 6 for channel in range(3))  # each image is another draw
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002
    assert before[:2] == after[:2] and torch.equal(before[2], after[2])


def test_images_drawn_at_random_in_several_threads_are_those_of_one():
    class Drawn:
        labels = [0] * 30

        def __len__(self):
            return 30

        def __getitem__(self, index):
            first = random.random()
            time.sleep(1e-3)  # others get their turn
            return np.full((3, 4, 4), int(200 * first) + random.randrange(50), np.uint8), 0

    def read(_):
        return pixels_of(Images(Drawn(), reader(memory_gb=0)), range(15), range(15, 30))

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(read, range(4))) == [read(0)] * 4


@pytest.mark.parametrize("draws", [True, False])
def test_an_image_that_changes_between_passes_is_named_unless_it_is_kept(draws, tmp_path):
    own = np.random.default_rng(0)
    Image.new("RGB", (4, 4), "red").save(tmp_path / "0.png")

    def opener(file):
        return own.integers(0, 256, (3, 4, 4)).astype(np.uint8) if draws else open_image(file)

    data = LabelledImages([tmp_path / "0.png"], [0], opener)
    images, kept = Images(data, reader(memory_gb=0)), Images(data, reader())
    first, same = next(images.read([torch.tensor([0])]))[1], next(kept.read([torch.tensor([0])]))[1]
    assert first.shape == same.shape
    Image.new("RGB", (4, 4), "blue").save(tmp_path / "0.png")
    assert torch.equal(next(kept.read([torch.tensor([0])]))[1], same)
    with pytest.raises(
        ValueError, match="image 0 has other pixels than when it was read before: .*raise loading.memory_gb"
    ):
        next(images.read([torch.tensor([0])]))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_cannot_be_read_is_named(workers):
    def opener(index):
        if index == 2:
            raise ValueError("cannot read two.jpg as an image")
        return np.zeros((3, 4, 4), np.uint8)

    images = Images(LabelledImages(list(range(4)), [0] * 4, opener), reader(workers=workers))
    with pytest.raises(ValueError) as raised:
        pixels_of(images, [0, 1], [2, 3])
    assert str(raised.value) == "cannot read two.jpg as an image" and "item 2 " in raised.value.__notes__[0]


def test_images_of_one_size_can_be_resized_on_the_device():
    sizes = [(4, 4), (4, 4), (5, 4)]
    data = LabelledImages(sizes, [0] * 3, lambda size: np.zeros((3, *size), np.uint8))
    images = Images(data, reader(resize="device"))
    assert next(images.read([torch.tensor([0, 1])]))[1].shape == (2, 3, 4, 4)  # the transform is left out
    with pytest.raises(ValueError, match="one size; the first has 4×4 pixels, image 2 has 5×4.*--loading.resize exact"):
        next(images.read([torch.tensor([2])]))


@pytest.mark.parametrize("kind", [int, np.int64, torch.tensor, lambda label: np.array([label])])
def test_labels_that_were_changed_in_one_place_alone_are_refused(kind):
    """As when someone renumbers ImageFolder.samples but not its targets, or the reverse."""
    items = [(np.zeros((3, 4, 4), np.uint8), kind(label)) for label in (0, 1, 2)]

    class Both(list):
        pass

    both = Both(items)
    both.targets = [0, 1, 1]
    images = Images(both, reader())
    assert pixels_of(images, [0, 1]) == [([0, 1], [0, 0])]
    with pytest.raises(
        ValueError, match="item 2 of the data set has the label 2, but its attribute labels or targets .* says 1"
    ):
        pixels_of(images, [2])


def test_a_worker_that_dies_is_explained():
    class Deadly(list):
        def __getitem__(self, index):
            if torch.utils.data.get_worker_info() is not None:
                os.kill(os.getpid(), signal.SIGKILL)
            return np.zeros((3, 4, 4), np.uint8), 0

    images = Images(Deadly([0] * 4), reader(workers=1, memory_gb=0))
    with pytest.raises(
        ChildProcessError, match=r"in 1 process\(es\) beside .* failed: DataLoader worker.*/dev/shm.*loading.workers 0"
    ):
        pixels_of(images, [0, 1], [2, 3])


def test_empty():
    images = Images(LabelledImages([], [], lambda image: image), reader())
    assert len(images) == 0 and list(images.read(images.batches(4))) == []


def test_ahead_keeps_order_and_hands_errors_on():
    assert list(ahead(range(5))) == [0, 1, 2, 3, 4]

    def broken():
        yield 1
        raise OSError("gone")

    items = ahead(broken())
    assert next(items) == 1
    with pytest.raises(OSError, match="gone"):
        next(items)
