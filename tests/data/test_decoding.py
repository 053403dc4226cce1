"""Decoding to RGB: modes, ranges, orientation, pixels in every form, and what is refused."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from reading import reader
from torchvision import tv_tensors

from segp_ext.data.decoding import open_image, to_pil
from segp_ext.data.images import Images


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "I;16"])
def test_any_pil_mode_becomes_rgb(mode):
    assert to_pil(Image.new(mode, (4, 3))).mode == "RGB"


def test_16_bit_grey_is_scaled():
    image = to_pil(Image.fromarray(np.array([[0, 255, 256, 32768, 65535]], dtype=np.uint16)))
    assert np.asarray(image)[0, :, 0].tolist() == [0, 0, 1, 128, 255]


@pytest.mark.parametrize("suffix", ["pgm", "png"])
@pytest.mark.parametrize(("values", "seen"), [([0, 255, 256, 32768, 65535], [0, 0, 1, 128, 255]), ([0, 255], [0, 0])])
def test_16_bit_files_are_scaled(tmp_path, suffix, values, seen):
    """PIL reads such a PGM file, and before its version 11 such a PNG, as pixels of 32 bits."""
    pixels, path = np.array([values], dtype=np.uint16), tmp_path / f"grey.{suffix}"
    if suffix == "pgm":
        path.write_bytes(b"P5 %d 1 65535\n" % len(values) + pixels.astype(">u2").tobytes())
    else:
        Image.fromarray(pixels).save(path)
    assert np.asarray(open_image(path))[0, :, 0].tolist() == seen


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
    with pytest.raises(ValueError, match="photo: pixels of 32 bits .mode F. must be from 0 to 255; got 300 to 300"):
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
    """PIL turns them as it reads them, whether it is given a path or bytes."""
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
            r"x must hold uint8 pixels \(0 to 255\) or floating-point pixels in \[0, 1\]; got int64",
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
        (b"no image", ValueError, "cannot read the given data as an image"),
        (b"no image", ValueError, "^x: cannot read the given data as an image: cannot identify image file$"),
        (
            io.BytesIO(b"no image"),
            ValueError,
            "^x: cannot read the given data as an image: cannot identify image file$",
        ),
        (
            io.TextIOWrapper(io.BytesIO(b"\x89PNG")),
            TypeError,
            "^x is a file open as text; open it with the mode 'rb'",
        ),
        (None, TypeError, "x must be a PIL image, a path, or pixels .*got NoneType"),
    ],
)
def test_other_images_are_refused(image, error, message):
    with pytest.raises(error, match=message):
        to_pil(image, "x")
