"""The adapter on every kind of open_clip model: small configurations, random weights."""

import pytest
import torch
from made_clips import MODELS, TEXTS, own

from segp_ext.clip.pretrained import load_clip
from segp_ext.config import LoraConfig

pytestmark = pytest.mark.usefixtures("made_models")


@pytest.mark.slow
@pytest.mark.parametrize("targets", ["kv+ffn", "attention+ffn"])
@pytest.mark.parametrize("name", MODELS)
def test_every_adapter_learns_and_merges(name, targets):
    _, backbone, pixels = own(name)
    backbone.adapt(LoraConfig(rank=2, targets=targets), seed=0)
    generator = torch.Generator().manual_seed(2)
    for parameter in backbone.trained_parameters():
        parameter.data.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
    tokens = backbone.tokenize(TEXTS)
    embedding, feature = backbone.encode_image(pixels)
    text = backbone.encode_text(tokens)
    mixed = torch.randn(3, embedding.shape[1], generator=generator)  # a plain sum is constant behind a normalisation
    (embedding * mixed + text * mixed).sum().backward()
    for key, parameter in backbone.clip.named_parameters():
        if ".lora_B." in key:
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, key
    with torch.no_grad(), backbone.reference():
        assert (backbone.encode_image(pixels)[0] - embedding).abs().max() > 1e-5
        assert (backbone.encode_text(tokens) - text).abs().max() > 1e-4
    with torch.no_grad(), backbone.merged():
        torch.testing.assert_close(backbone.encode_image(pixels)[1], feature, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(backbone.encode_text(tokens), text, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_a_copy_stays_as_it_is(name):
    _, backbone, pixels = own(name)
    backbone.adapt(LoraConfig(rank=2), seed=0)
    tokens = backbone.tokenize(TEXTS)
    with torch.no_grad():
        with backbone.merged():
            twin = backbone.copy()
        before = [*twin.encode_image(pixels), twin.encode_text(tokens)]
        for parameter in backbone.trained_parameters():
            parameter.add_(0.05)
        assert (backbone.encode_image(pixels)[0] - before[0]).abs().max() > 1e-5
        for now, then in zip([*twin.encode_image(pixels), twin.encode_text(tokens)], before, strict=True):
            assert torch.equal(now, then)


def test_convolutions_in_blocks():
    """A ResNet-18: eight blocks of two convolutions; those of its stem and between stages stay as they are."""
    backbone = load_clip("made-resnet", None)
    for module in backbone.clip.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data.fill_(1)  # timm's zeros would hide the branches
    pixels = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = backbone.encode_image(pixels)
    backbone.adapt(LoraConfig(rank=2, encoders="vision", targets="convolutions"), seed=0)
    matrices = [p for name, p in backbone.clip.named_parameters() if ".lora_A." in name]
    for matrix in matrices:
        rows = matrix.flatten(1)
        torch.testing.assert_close(rows @ rows.T, torch.eye(2), rtol=0, atol=1e-5)
    assert len(matrices) == len(backbone.trained_parameters()) == 16
    with torch.no_grad():
        torch.testing.assert_close(backbone.encode_image(pixels), before)
    backbone.encode_image(pixels)[0].square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in backbone.trained_parameters())
    for parameter in backbone.trained_parameters():
        parameter.data.normal_(std=0.02, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        changed = backbone.encode_image(pixels)
        assert (changed[0] - before[0]).abs().max() > 1e-3
        with backbone.merged():
            torch.testing.assert_close(backbone.encode_image(pixels), changed, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(backbone.encode_image(pixels), changed, rtol=0, atol=0)
    with pytest.raises(ValueError, match="lora.rank must be at most 512, the width of visual.trunk.layer4.0.conv1"):
        load_clip("made-resnet", None).adapt(LoraConfig(rank=513, encoders="vision", targets="convolutions"), seed=0)


def test_convolutions_outside_of_blocks_are_adapted_where_they_are_named():
    backbone = load_clip("made-resnet", None)
    backbone.adapt(LoraConfig(rank=2, encoders="vision", targets=["trunk.conv1", "downsample.0"]), seed=0)
    adapted = {name.split(".lora_B")[0] for name, _ in backbone.clip.named_parameters() if ".lora_B." in name}
    assert adapted == {"visual.trunk.conv1", *(f"visual.trunk.layer{n}.0.downsample.0" for n in (2, 3, 4))}
