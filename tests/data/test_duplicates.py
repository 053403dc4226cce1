"""Images that are there twice."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from segp_ext.data import duplicates as module
from segp_ext.data.duplicates import Pair, digests, duplicates, groups, thumbnails


def smooth(count, seed=0, side=32):
    """Makes random images without fine grain, uint8 `[count, 3, side, side]`."""
    draw = np.random.RandomState(seed).randint(0, 256, (count, 5, 5, 3)).astype(np.uint8)
    large = [np.asarray(Image.fromarray(one).resize((side, side), Image.Resampling.BICUBIC)) for one in draw]
    return torch.from_numpy(np.stack(large)).permute(0, 3, 1, 2).contiguous()


def as_jpeg(image, quality=60):
    content = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(content, "JPEG", quality=quality)
    return torch.from_numpy(np.array(Image.open(content).convert("RGB"))).permute(2, 0, 1)


def found(pixels, features=None, near=0.99):
    features = torch.ones(len(pixels), 4) if features is None else features
    return duplicates(digests(pixels), thumbnails(pixels), features, near)


def test_thumbnails_have_mean_zero_and_norm_one_and_know_no_light():
    pixels = smooth(3)
    small = thumbnails(pixels)
    assert small.shape == (3, 256) and small.dtype == torch.float32
    torch.testing.assert_close(small.sum(dim=1), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(small.norm(dim=1), torch.ones(3))
    darker = thumbnails((pixels.float() * 0.5).to(torch.uint8))
    assert (small * darker).sum(dim=1).min() > 0.999
    assert thumbnails(torch.full((1, 3, 8, 8), 7, dtype=torch.uint8)).abs().max() == 0


@pytest.mark.parametrize("rows", [1, 2, 1024])
def test_copies_are_found_and_others_are_not(monkeypatch, rows):
    monkeypatch.setattr(module, "_ROWS", rows)
    pixels = smooth(4)
    both = torch.cat([pixels, pixels[2:3], as_jpeg(pixels[1])[None], pixels[2:3]])
    pairs = found(both)
    assert [(pair.first, pair.second, pair.same_pixels) for pair in pairs] == [
        (1, 5, False), (2, 4, True), (2, 6, True),
    ]  # fmt: skip
    assert pairs[1].likeness == 1 and 0.99 <= pairs[0].likeness < 1
    assert groups(7, pairs).tolist() == [0, 1, 2, 3, 2, 1, 2]


def test_features_must_agree_too():
    pixels = torch.cat([smooth(1), as_jpeg(smooth(1)[0])[None]])
    assert len(found(pixels, torch.tensor([[1.0, 0.0], [10.0, 4.0]]))) == 1
    assert found(pixels, torch.tensor([[1.0, 0.0], [1.0, 0.5]])) == []


def test_flat_images_are_duplicates_only_if_equal():
    flat = torch.stack([torch.full((3, 8, 8), value, dtype=torch.uint8) for value in (5, 9, 5)])
    assert found(flat) == [Pair(0, 2, 1.0, True)]


def test_no_pair_leaves_each_image_alone():
    assert groups(3, []).tolist() == [0, 1, 2]
