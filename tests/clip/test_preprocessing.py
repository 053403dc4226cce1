"""From images to pixels: as open_clip does it, in worker processes too."""

import io
import pickle

import numpy as np
import open_clip
import pytest
import torch
from made import images_of, made_images, tiny_backbone
from made_clips import local_model, weights
from safetensors.torch import save_file

from segp_ext.clip.backbone import Backbone
from segp_ext.clip.preprocessing import published_preprocessing
from segp_ext.clip.pretrained import load_clip
from segp_ext.data.scenario import LabelledImages, PixelArray

pytestmark = pytest.mark.usefixtures("made_models")


def test_a_local_file_is_prepared_for_as_the_published_weights_are(tmp_path, monkeypatch):
    assert published_preprocessing("ViT-B-16-SigLIP")["mean"] == (0.5, 0.5, 0.5)
    assert published_preprocessing("ViT-B-16-SigLIP")["resize_mode"] == "squash"
    assert published_preprocessing("made-tiny") == {}
    _, state = weights()
    torch.save(state, tmp_path / "weights.pt")
    assert load_clip("made-tiny", str(tmp_path / "weights.pt")).resize_mode == "shortest"
    monkeypatch.setattr("segp_ext.clip.building.published_preprocessing", lambda name: {"resize_mode": "squash"})
    assert load_clip("made-tiny", str(tmp_path / "weights.pt")).resize_mode == "squash"


def test_weights_and_preprocessing_that_are_no_numbers_are_refused(tmp_path):
    _, state = weights()
    state["text_projection"][0, 0] = torch.nan
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(
        ValueError, match="weights of made-tiny are damaged: their text_projection has values that are not finite"
    ):
        load_clip("made-tiny", str(tmp_path / "w.safetensors"))
    for number, wrong in enumerate(
        ({"std": [0, 0, 0]}, {"mean": [float("nan")] * 3}, {"mean": [0.5]}, {"interpolation": "x"})
    ):
        local_model(tmp_path / str(number), preprocess_cfg=wrong)
        with pytest.raises(ValueError, match="model.name: .*cannot be used|could not load"):
            load_clip(f"local-dir:{tmp_path / str(number)}")


class WithoutModel(pickle.Pickler):
    """Refuses models and tensors."""

    def persistent_id(self, obj):
        assert not isinstance(obj, (Backbone, torch.Tensor)), type(obj)


@pytest.fixture
def spawning():
    """Worker processes are spawned, as macOS and Python 3.14 do, and get a pickle of what they work with."""
    before = torch.multiprocessing.get_start_method(allow_none=True)
    torch.multiprocessing.set_start_method("spawn", force=True)
    yield
    torch.multiprocessing.set_start_method(before, force=True)


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [False, True])
def test_spawned_workers_get_the_transform_and_no_model(compiled, spawning):
    backbone = tiny_backbone(compile=compiled)
    pixels = np.random.RandomState(0).randint(0, 256, (6, 3, 12, 10)).astype(np.uint8)
    dataset = LabelledImages(range(6), [0, 1] * 3, PixelArray(pixels).open)
    own, theirs = (images_of(dataset, backbone, workers=count, memory_gb=0) for count in (0, 2))
    chunks = [torch.tensor([4, 1, 0]), torch.tensor([5, 2])]
    expected = [made for _, made in own.read(chunks)]
    found = [made for _, made in theirs.read(chunks)]
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    handed = io.BytesIO()
    WithoutModel(handed).dump(theirs._decoded)
    assert len(handed.getvalue()) < 100_000


@pytest.mark.filterwarnings("ignore:Got pickle error")  # torch's own words
def test_a_data_set_that_cannot_be_handed_to_workers_is_named(spawning):
    images = images_of(made_images(2, 3), tiny_backbone(), workers=2)  # which has a lambda
    with pytest.raises(TypeError, match="this data set cannot be handed to worker processes: .*loading.workers to 0"):
        list(images.read(images.batches(2)))


def test_transform_is_clips_preprocessing():
    from PIL import Image

    backbone = tiny_backbone()
    image = Image.effect_noise((23, 17), 80).convert("RGB")
    expected = open_clip.image_transform(8, is_train=False, mean=(0, 0, 0), std=(1, 1, 1))(image)
    torch.testing.assert_close(backbone.transform(image).float() / 255, expected, rtol=0, atol=1e-6)
