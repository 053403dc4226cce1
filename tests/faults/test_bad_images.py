"""Bad images and labels: some are read by a stated rule, the others are refused by a message that names the file or class."""

import math
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from trees import scenario

from segp_ext import SeGPCL, load_clip
from segp_ext.config import AnchorsConfig, DataConfig, MethodConfig, TrainingConfig
from segp_ext.data import load_scenario


def tree(root, **odd):
    """Makes two classes of two images in each part; functions in `odd` write further files to train/a."""
    for part in ("train", "test"):
        for c in "ab":
            (root / part / c).mkdir(parents=True)
            for number in range(2):
                Image.new("RGB", (6, 5), (number, ord(c), len(part))).save(root / part / c / f"{number}.png")
    for name, write in odd.items():
        write(root / "train" / "a" / name.replace("__", "."))
    return root


def header_only(path, width, height):
    """Writes a PNG of a few bytes whose header claims a large image."""
    parts = [b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), b"IDAT" + zlib.compress(b"")]
    chunks = [struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in parts]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def cut(path):
    Image.effect_noise((64, 64), 90).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:800])


def frames(path):
    """Writes an animated image; its first frame is red."""
    red, blue = (Image.new("RGB", (6, 5), colour) for colour in ((255, 0, 0), (0, 0, 255)))
    red.save(path, save_all=True, append_images=[blue], lossless=True)


def see_through(path):
    """Writes a palette image with a transparency for each colour."""
    Image.new("RGB", (6, 5), (255, 0, 0)).convert("P").save(path, transparency=bytes(256))


def pair(path):
    Image.new("RGB", (6, 5)).save(path, "MPO", save_all=True, append_images=[Image.new("RGB", (6, 5))])


REFUSED = {
    "cut__jpg": cut,
    "empty__png": lambda path: path.write_bytes(b""),
    "text__jpg": lambda path: path.write_text("not an image"),
    "script__jpg": lambda path: path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"),
    "bomb__png": lambda path: header_only(path, 60_000, 60_000),
    "huge__png": lambda path: header_only(path, 2**31 - 1, 2**31 - 1),
    "nan__tif": lambda path: Image.fromarray(np.full((5, 6), np.nan, np.float32)).save(path),
    "below__tif": lambda path: Image.fromarray(np.full((5, 6), -1, np.int32)).save(path),
    "phone__heic": lambda path: path.write_bytes(b"\0\0\0\x18ftypheic"),
    "text__tga": lambda path: path.write_text("not an image, and long enough for a header"),
    "game__png": lambda path: Image.new("RGB", (6, 5)).save(path, "TGA"),
    "long__tif": lambda path: Image.fromarray(np.full((5, 6), 70_000, np.int32)).save(path),
}
READ = {  # how to write each file, and the colour to be read
    "phone__avif": (lambda path: Image.new("RGB", (6, 5), (255, 255, 255)).save(path), (255, 255, 255)),
    "map__jp2": (lambda path: Image.new("RGB", (6, 5), (9, 8, 7)).save(path), (9, 8, 7)),
    "game__tga": (lambda path: Image.new("RGB", (6, 5), (9, 8, 7)).save(path), (9, 8, 7)),
    "no_game__tga": (lambda path: Image.new("RGB", (6, 5), (9, 8, 7)).save(path, "PNG"), (9, 8, 7)),
    "site__ico": (lambda path: Image.new("RGB", (6, 5), (9, 8, 7)).save(path, sizes=[(6, 5)]), (9, 8, 7)),
    "pair__mpo": (pair, (0, 0, 0)),
    "really_avif__jpg": (lambda path: Image.new("RGB", (6, 5), (0, 0, 0)).save(path, "AVIF"), (0, 0, 0)),
    "share__tif": (lambda path: Image.fromarray(np.full((5, 6), 0.5, np.float32)).save(path), (128, 128, 128)),
    "float__tif": (lambda path: Image.fromarray(np.full((5, 6), 200.2, np.float32)).save(path), (200, 200, 200)),
    "whole__tif": (lambda path: Image.fromarray(np.full((5, 6), 200, np.int32)).save(path), (200, 200, 200)),
    "wide__tif": (lambda path: Image.fromarray(np.full((5, 6), 0x8040, np.int32)).save(path), (128, 128, 128)),
    "wrong__jpg": (lambda path: Image.new("RGB", (6, 5), (9, 8, 7)).save(path, "PNG"), (9, 8, 7)),
    "deep__png": (lambda path: Image.fromarray(np.full((5, 6), 0x8040, np.uint16)).save(path), (128, 128, 128)),
    "print__jpg": (lambda path: Image.new("CMYK", (6, 5), (0, 0, 0, 255)).save(path, "JPEG"), (0, 0, 0)),
    "palette__gif": (lambda path: Image.new("RGB", (6, 5), (255, 0, 0)).convert("P").save(path), (255, 0, 0)),
    "palette_and_glass__png": (see_through, (255, 0, 0)),
    "moves__gif": (frames, (255, 0, 0)),
    "moves__webp": (frames, (255, 0, 0)),
    "moves__png": (frames, (255, 0, 0)),
    "bits__png": (lambda path: Image.new("1", (6, 5), 1).save(path), (255, 255, 255)),
    "glass__png": (lambda path: Image.new("RGBA", (6, 5), (1, 2, 3, 0)).save(path), (1, 2, 3)),
    "Ünï\n  x__png": (lambda path: Image.new("RGB", (6, 5), (4, 5, 6)).save(path), (4, 5, 6)),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_an_image_that_cannot_be_trusted_is_named_or_left_out(tmp_path, name):
    root = tree(tmp_path, **{name: REFUSED[name]})
    file = name.replace("__", ".")
    images = scenario(root).tasks[0].train
    at = next(index for index, source in enumerate(images.sources) if source.name == file)
    with pytest.raises(ValueError, match=f"cannot read .*train/a/{file} as an image: .*--data.unreadable skip"):
        images[at]
    with pytest.warns(RuntimeWarning, match=rf"1 image\(s\) of .* were left out .*{file}"):
        assert len(scenario(root, unreadable="skip").tasks[0].train) == 4


@pytest.mark.parametrize("name", READ)
def test_an_image_of_an_odd_kind_is_read(tmp_path, name):
    write, colour = READ[name]
    images = scenario(tree(tmp_path, **{name: write})).tasks[0].train
    at = next(index for index, source in enumerate(images.sources) if source.name == name.replace("__", "."))
    image, label = images[at]
    assert (image.mode, image.size, image.getpixel((0, 0)), label) == ("RGB", (6, 5), colour, 0)


def test_class_lists_with_repeats(tmp_path):
    root = tree(tmp_path)
    (root / "order.txt").write_text("b\na\nb\n")
    with pytest.raises(ValueError, match=r"data.class_list: .*order.txt names b more than once"):
        load_scenario(DataConfig(root=str(root), class_list="order.txt"))


@pytest.fixture
def learner():
    config = MethodConfig(
        training=TrainingConfig(epochs=1, batch_size=4), anchors=AnchorsConfig(seeds_per_class=2, steps=1)
    )
    return SeGPCL(load_clip("glyph"), config)


def dataset(labels, colour=None):
    draw = np.random.RandomState(0)
    colours = [colour or tuple(draw.randint(0, 255, 3)) for _ in labels]
    return [(Image.new("RGB", (16, 16), tuple(map(int, c))), label) for c, label in zip(colours, labels, strict=True)]


def test_classes_of_images_that_are_all_alike(learner):
    """Learns such classes: nothing becomes infinite, and prediction works."""
    learner.learn_task(dataset([0, 0, 0, 1, 1, 1], (7, 7, 7)), ["a", "b"])
    learner.learn_task(dataset([0, 0, 0, 1, 1, 1], (7, 7, 7)), ["c", "d"])
    for path in ("text", "visual", "dual"):
        found = learner.predict(torch.full((3, 16, 16), 7, dtype=torch.uint8), path=path)[0]
        assert len(found) == 4 and math.isclose(sum(prediction.score for prediction in found), 1, abs_tol=1e-5)


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        ([0, 0, 2, 2], ["c", "d"], "label of image 2 must be from 0 to 1"),
        ([0, 0, -1, 1], ["c", "d"], "label of image 2 must be from 0 to 1"),
        ([], ["c"], "class 'c' has 0 training image"),
        ([], [], "class"),
        ([0, 0, 1, 1], ["c", "a"], "class name 'a' is learnt already"),
        ([0, 0, 1, 1], ["c", "c"], "class name 'c' is given twice"),
        ([0, 0, 1, 1], ["c", "C"], "read the same to the text encoder"),
        ([0, 0, 1, 1], ["c", " "], "class names must be strings that are not empty; got ' '"),
        ([0, 0, 1, 1], ["c", 3], "class names must be strings that are not empty; got 3"),
        ([0, 0, 1, 1], "cd", r"class_names must be a list of names; got the string 'cd': write \['cd'\]"),
        ([0, 0, 1, 1], {"c", "d"}, "class_names must be a list of names in the order of their labels; got a set"),
        ([0, 0, 1, 1], {"c": 0, "d": 1}, "got a dict"),
        ([0, 0, 1, 1], 2, "got a int"),
    ],
)
def test_a_task_that_cannot_be_learnt_changes_nothing(learner, labels, names, message):
    learner.learn_task(dataset([0, 0, 1, 1]), ["a", "b"])
    before = {name: tensor.clone() for name, tensor in learner.backbone.adapter_state().items()}
    with pytest.raises((TypeError, ValueError), match=message):
        learner.learn_task(dataset(labels), names)
    assert list(learner.class_names) == ["a", "b"]
    assert all(torch.equal(before[name], tensor) for name, tensor in learner.backbone.adapter_state().items())


@pytest.mark.parametrize("pixels", [torch.full((3, 16, 16), torch.nan), np.full((3, 16, 16), np.inf)])
def test_pixels_that_are_no_numbers(learner, pixels):
    with pytest.raises(ValueError, match=r"image 1 must have floating-point pixels in \[0, 1\].*; got"):
        learner.learn_task([*dataset([0]), (pixels, 0)], ["a"])
    assert list(learner.class_names) == []
