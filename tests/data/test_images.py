"""Decoding to pixels in memory, or anew on every pass."""

import io
import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.datasets import ImageFolder
from trees import make

from segp_ext.config import LoadingConfig
from segp_ext.data.images import Images, Reader, ahead, labels_of, open_image, to_pil
from segp_ext.data.scenario import LabelledImages


def halve(image):
    return torch.from_numpy(np.asarray(image)[::2, ::2].transpose(2, 0, 1).copy())


@pytest.fixture
def dataset():
    pixels = [np.full((3, 4, 4), 10 * i, np.uint8) for i in range(7)]
    return LabelledImages(pixels, [0, 1, 2, 0, 1, 2, 0], lambda image: image)


def reader(**loading):
    return Reader(halve, LoadingConfig(**loading), torch.device("cpu"))


def pixels_of(images, *chunks):
    return [(i.tolist(), p[:, 1, 1, 1].tolist()) for i, p in images.read([torch.tensor(chunk) for chunk in chunks])]


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
    """Kept or not, in any order, in a process of its own or not, and in another run: the same pixels, and nothing of the caller's."""

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


def test_reading_what_draws_nothing_leaves_the_generators_alone(dataset, monkeypatch):
    monkeypatch.setattr("segp_ext.data.images.drawn_by", None)
    assert pixels_of(Images(dataset, reader()), [0, 1]) == [([0, 1], [0, 10])]


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


class Columns:
    """As Hugging Face's data sets are: dicts, and columns by name."""

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
    """It has a length; the index that it inherits says nothing but that it is not implemented."""

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
    """Names of the classes, say, or the labels of all images behind a subset."""

    class Odd:
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return np.zeros((3, 4, 4), np.uint8), 1 - index

    odd = Odd()
    odd.labels = labels
    assert labels_of(odd).tolist() == [1, 0]


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


@pytest.mark.parametrize("kind", [int, np.int64, torch.tensor, lambda label: np.array([label])])
def test_labels_that_were_changed_in_one_place_alone_are_refused(kind):
    """Whoever renumbers ImageFolder.samples and leaves its targets, or the other way round."""
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


def test_labels_without_an_attribute_are_read_from_the_items():
    class Plain:
        def __len__(self):
            return 3

        def __getitem__(self, index):
            return None, index * 2

    assert labels_of(Plain()).tolist() == [0, 2, 4]


def test_labels_that_a_transform_changes_are_read_from_the_items(tmp_path):
    """torchvision's data sets keep the labels of their files in `targets`, and change them as they are read."""
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


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "I;16"])
def test_any_pil_mode_becomes_rgb(mode):
    assert to_pil(Image.new(mode, (4, 3))).mode == "RGB"


def test_16_bit_grey_is_scaled():
    image = to_pil(Image.fromarray(np.array([[0, 255, 256, 32768, 65535]], dtype=np.uint16)))
    assert np.asarray(image)[0, :, 0].tolist() == [0, 0, 1, 128, 255]


@pytest.mark.parametrize("suffix", ["pgm", "png"])
def test_16_bit_files_are_scaled(tmp_path, suffix):
    """PIL reads such a PGM file, and before its version 11 such a PNG, as pixels of 32 bits."""
    pixels, path = np.array([[0, 255, 256, 32768, 65535]], dtype=np.uint16), tmp_path / f"grey.{suffix}"
    if suffix == "pgm":
        path.write_bytes(b"P5 5 1 65535\n" + pixels.astype(">u2").tobytes())
    else:
        Image.fromarray(pixels).save(path)
    assert np.asarray(open_image(path))[0, :, 0].tolist() == [0, 0, 1, 128, 255]


@pytest.mark.parametrize(
    ("pixels", "seen"),
    [
        (np.float32([[0, 0.5, 1]]), [0, 128, 255]),  # a fraction of white
        (np.float32([[0, 1, 255]]), [0, 1, 255]),
        (np.int32([[0, 128, 255]]), [0, 128, 255]),
        (np.int32([[0, 256, 65535]]), [0, 1, 255]),
    ],
)
def test_32_bit_grey_goes_by_its_range(pixels, seen):
    assert np.asarray(to_pil(Image.fromarray(pixels)))[0, :, 0].tolist() == seen


def test_pixels_out_of_every_range_are_refused():
    with pytest.raises(ValueError, match="photo: pixels of 32 bits .mode F. must be from 0 to 65535.*got 300 to 300"):
        to_pil(Image.new("F", (2, 2), 300), "photo")
    with pytest.raises(
        ValueError, match="photo: pixels of mode F must have a maximum up to 1, which .* from 2 to 255; got 0 to 1.0001"
    ):
        to_pil(Image.fromarray(np.float32([[0, 1.0001]])), "photo")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_orientation_by_exif_when_asked(tmp_path, dtype):
    pixels, exif = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40, Image.Exif()
    exif[274] = 6  # to be turned by 90 degrees
    Image.fromarray(pixels.astype(dtype) << 8 * (dtype == np.uint16)).save(tmp_path / "x.png", exif=exif)
    expected = np.rot90(pixels, -1)
    for form in (tmp_path / "x.png", open_image(tmp_path / "x.png"), Image.open(tmp_path / "x.png")):
        np.testing.assert_array_equal(np.asarray(to_pil(form))[..., 0], pixels)
        np.testing.assert_array_equal(np.asarray(to_pil(form, upright=True))[..., 0], expected)
    for orientation, shape in (("stored", (3, 2, 3)), ("exif", (3, 3, 2))):
        images = Images([(tmp_path / "x.png", 0)], reader(orientation=orientation, resize="device"))
        assert tuple(next(images.read([torch.tensor([0])]))[1][0].shape) == shape


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("upright", [True, False])
def test_pil_turns_tiff_files_in_any_case(tmp_path, dtype, upright):
    """As it reads them, a path like the bytes."""
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(np.zeros((2, 3), dtype)).save(tmp_path / "x.tif", exif=exif)
    for form in (tmp_path / "x.tif", (tmp_path / "x.tif").read_bytes(), (tmp_path / "x.tif").open("rb")):
        assert to_pil(form, upright=upright).size == (2, 3)


def test_an_orientation_that_cannot_be_read_is_none(tmp_path):
    Image.new("RGB", (4, 2), (200, 0, 0)).save(tmp_path / "x.jpg", exif=b"Exif\0\0no data of a camera")
    assert to_pil(tmp_path / "x.jpg", upright=True).size == (4, 2)


@pytest.mark.parametrize("shape", [(3, 50, 3), (4, 100, 3), (1, 5, 3)])
def test_pixels_whose_channels_may_be_first_or_last_are_refused(shape):
    with pytest.raises(ValueError, match=r"may be \[C, H, W\] or \[H, W, C\].*give a PIL image"):
        to_pil(np.zeros(shape, np.uint8))


def test_a_pointer_of_git_lfs_is_named(tmp_path):
    (tmp_path / "x.jpg").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(ValueError, match=r"cannot read .*x.jpg as an image.*pointer of Git LFS.*git lfs pull"):
        to_pil(tmp_path / "x.jpg")


def test_grey_pixels_fill_three_channels():
    image = to_pil(np.arange(8, dtype=np.uint8).reshape(1, 2, 4))
    np.testing.assert_array_equal(np.asarray(image)[..., 2], [[0, 1, 2, 3], [4, 5, 6, 7]])


def test_pixels_in_every_form(tmp_path, monkeypatch):
    pixels = np.random.RandomState(0).randint(0, 256, (6, 5, 3), np.uint8)
    first, grey = np.ascontiguousarray(pixels.transpose(2, 0, 1)), pixels[..., 0]
    Image.fromarray(pixels).save(tmp_path / "x.png")
    monkeypatch.setenv("HOME", str(tmp_path))
    alpha = np.concatenate([first, first[:1]])
    forms = [
        pixels, first, torch.from_numpy(pixels), torch.from_numpy(first), tv_tensors.Image(torch.from_numpy(first)),
        alpha, alpha.transpose(1, 2, 0), first / 255, (first / 255).astype(np.float32), torch.from_numpy(first).float() / 255,
        Image.fromarray(pixels), tmp_path / "x.png", "~/x.png", (tmp_path / "x.png").read_bytes(), (tmp_path / "x.png").open("rb"),
    ]  # fmt: skip
    for form in forms:
        np.testing.assert_array_equal(np.asarray(to_pil(form)), pixels)
    assert (np.asarray(to_pil(torch.from_numpy(first).bfloat16() / 255)).astype(int) - pixels).max() <= 1
    assert np.asarray(to_pil(torch.ones(3, 4, 4).to(torch.float8_e4m3fn))).min() == 255
    for form in (grey, grey[None], grey[..., None], torch.from_numpy(grey), grey / 255):
        np.testing.assert_array_equal(np.asarray(to_pil(form)), np.stack([grey] * 3, axis=-1))


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (
            np.zeros((3, 4, 4), np.int64),
            TypeError,
            r"x must hold uint8 pixels \(0 to 255\) or floating-point ones in \[0, 1\]; got int64",
        ),
        (
            torch.full((3, 4, 4), 1.5),
            ValueError,
            r"x must have floating-point pixels in \[0, 1\].*got 1.5 to 1.5. Drop the normalisation",
        ),
        (torch.full((3, 4, 4), torch.nan), ValueError, "got nan to nan"),
        (torch.zeros(2, 5, 6, dtype=torch.uint8), ValueError, r"x must be \[C, H, W\].*got \[2, 5, 6\]"),
        (torch.zeros(5, 3, 4, 4, dtype=torch.uint8), ValueError, r"got \[5, 3, 4, 4\]"),
        (np.zeros((3, 4, 0), np.uint8), ValueError, r"x has no pixels: \[3, 4, 0\]"),
        (Image.new("RGB", (0, 4)), ValueError, "x: it has no pixels: 0 × 4"),
        ("gone.png", ValueError, "cannot read gone.png as an image"),
        ({"bytes": b"", "path": None}, TypeError, "x must be a PIL image, a path, or pixels .*got dict"),
        ("https://somewhere/cat.jpg", ValueError, "x is the address 'https://somewhere/cat.jpg'; download it"),
        (b"no image", ValueError, "cannot read what was given as an image"),
        (b"no image", ValueError, "^x: cannot read what was given as an image: cannot identify image file$"),
        (
            io.BytesIO(b"no image"),
            ValueError,
            "^x: cannot read what was given as an image: cannot identify image file$",
        ),
        (
            io.TextIOWrapper(io.BytesIO(b"\x89PNG")),
            TypeError,
            "^x is a file that is open as text; open it with the mode 'rb'",
        ),
        (None, TypeError, "x must be a PIL image, a path, or pixels .*got NoneType"),
    ],
)
def test_other_images_are_refused(image, error, message):
    with pytest.raises(error, match=message):
        to_pil(image, "x")
