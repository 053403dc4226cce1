"""Labels of a folder, tested with a model's features."""

import numpy as np
import pytest
import torch
from made import small_config, tiny_backbone
from PIL import Image

from segp_ext.data.labelled_folder import read_labelled_folder
from segp_ext.run.label_check import encode_folder, find_suspects

COLOURS = {"red": (220, 40, 40), "green": (40, 220, 40), "blue": (40, 40, 220)}


@pytest.fixture
def photos(tmp_path):
    """Ten images of each of three colours, and two of grey."""
    draw = np.random.RandomState(0)
    for name, colour in {**COLOURS, "grey": (128, 128, 128)}.items():
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(2 if name == "grey" else 10):
            pixels = np.clip(np.array(colour) + draw.randint(-30, 31, (8, 8, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"photos/{name}/{number}.png")
    return tmp_path / "photos"


def found(photos, **given):
    return find_suspects(tiny_backbone(), small_config(), read_labelled_folder(photos, all_parts=True), **given)


def test_a_right_folder_has_no_suspects_and_small_classes_are_told(photos):
    done = found(photos)
    assert (done.images, done.agreement, done.rows, done.untested, done.unread) == (32, 1.0, [], ["grey"], {})


@pytest.mark.parametrize("size", [1, 7, 100])
def test_a_wrong_label_and_twins_are_found(photos, size):
    (photos / "red/3.png").rename(photos / "blue/wrong.png")
    (photos / "green/twin.png").write_bytes((photos / "green/2.png").read_bytes())
    (photos / "red/copy.png").write_bytes((photos / "blue/0.png").read_bytes())
    (photos / "red/broken.png").write_bytes(b"broken")
    done = found(photos, batch_size=size, workers=0)
    labels = {(row.file, row.given, row.likely) for row in done.rows if row.kind == "label"}
    assert labels == {("blue/wrong.png", "blue", "red"), ("red/copy.png", "red", "blue")}
    pairs = [row for row in done.rows if row.kind != "label"]
    assert [(row.kind, row.file, row.given, row.likely, row.twin) for row in pairs] == [
        ("same pixels", "red/copy.png", "red", "blue", "blue/0.png"),
        ("same pixels", "green/twin.png", "green", "", "green/2.png"),
    ]
    assert [*done.unread] == ["red/broken.png"] and 0.9 < done.agreement < 1


def test_features_that_are_not_finite_are_left_out(photos, monkeypatch):
    backbone = tiny_backbone()
    encode = backbone.encode_image

    def broken(pixels):
        embedding, feature = encode(pixels)
        return embedding, feature.index_fill(0, torch.tensor([1]), torch.nan)

    monkeypatch.setattr(backbone, "encode_image", broken)
    encoded, unread = encode_folder(backbone, small_config(), read_labelled_folder(photos, all_parts=True), 100, 0)
    assert [*unread] == ["blue/1.png"] and len(encoded.places) == len(encoded.features) == len(encoded.digests) == 31
    assert encoded.places == [0, *range(2, 32)] and encoded.thumbnails.shape == (31, 256)


def test_one_class_and_no_readable_image_are_refused(photos):
    with pytest.raises(ValueError, match="two classes are needed; .* has 1"):
        alone = read_labelled_folder(photos, all_parts=True)
        alone.folders[:] = ["red"]
        find_suspects(tiny_backbone(), small_config(), alone)
    for file in photos.rglob("*.png"):
        file.write_bytes(b"")
    with pytest.raises(ValueError, match="no image in .*photos could be read; the first: cannot read "):
        found(photos)


def test_classes_that_are_all_small_are_told(photos):
    for file in photos.rglob("*.png"):
        if file.stem > "1":
            file.unlink()
    done = found(photos)
    assert done.rows == [] and done.untested == ["blue", "green", "grey", "red"]
