"""The weights without the adapter: their hash, and values that are not finite."""

import pytest
import torch
from made import shake, tiny_backbone
from made_clips import weights
from safetensors.torch import save_file

import segp_ext
from segp_ext.clip.pretrained import load_clip
from segp_ext.config import LoraConfig, MethodConfig
from segp_ext.method.learner import SeGPCL

pytestmark = pytest.mark.usefixtures("made_models")


@pytest.mark.parametrize("name", ["visual.proj", "text_projection", "positional_embedding"])
def test_weights_that_are_not_finite_are_named(tmp_path, name):
    _, state = weights()
    save_file({**state, name: state[name] / 0}, tmp_path / "w.safetensors")
    with pytest.raises(
        ValueError, match="the weights of made-tiny are damaged: their .* has values that are not finite"
    ):
        load_clip("made-tiny", str(tmp_path / "w.safetensors"))


def test_weights_hash_ignores_the_adapter_and_sees_the_weights(backbone):
    plain = backbone.weights_hash()
    backbone.adapt(LoraConfig(rank=4), seed=0)
    shake(backbone)
    assert backbone.weights_hash() == plain
    assert tiny_backbone(seed=1).weights_hash() != plain


def test_weights_are_the_same_while_the_adapter_is_merged(backbone):
    plain, known = {name: tensor.clone() for name, tensor in backbone.weights().items()}, backbone.weights_hash()
    backbone.adapt(LoraConfig(rank=4), seed=0)
    shake(backbone)
    with backbone.merged():
        assert backbone.weights_hash() == known and not backbone.has_other_weights()
        own = backbone.weights()
        assert own.keys() == plain.keys() and all(torch.equal(own[name], tensor) for name, tensor in plain.items())


@pytest.mark.parametrize("dim", [0, 1])
def test_weights_in_another_order_are_others(dim, tmp_path):
    learner = SeGPCL(segp_ext.load_clip("glyph"), MethodConfig())
    learner.save(tmp_path / "saved")  # which keeps a hash
    known = learner.backbone.weights_hash()
    weight = dict(learner.backbone.clip.named_parameters())["visual.transformer.resblocks.0.mlp.c_fc.base_layer.weight"]
    with torch.no_grad():
        weight.copy_(weight.flip(dim))
    assert learner.backbone.has_other_weights() and learner.backbone.weights_hash() != known
    with pytest.raises(ValueError, match="weights are others than"):
        learner.save(tmp_path / "saved")
