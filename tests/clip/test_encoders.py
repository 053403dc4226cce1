"""Encoders in bfloat16 and compiled, against the plain ones."""

import os

import pytest
import torch
import torch.nn.functional as F
from made_clips import TEXTS, own

from segp_ext.clip.pretrained import load_clip
from segp_ext.config import LoraConfig

pytestmark = pytest.mark.usefixtures("made_models")


@pytest.mark.parametrize("name", ["vit", "sigmoid"])
def test_bf16_is_close_and_gives_float32(name):
    _, exact, pixels = own(name)
    rough = load_clip(f"made-{name}", None, precision="bf16")
    with torch.no_grad():
        for ours, theirs in zip(rough.clip.parameters(), exact.clip.parameters(), strict=True):
            ours.copy_(theirs)
        if exact.projection is not None:
            rough.projection.copy_(exact.projection)
    tokens = exact.tokenize(TEXTS)
    pixels.requires_grad_(True)
    embedding, feature = rough.encode_image(pixels)
    text = rough.encode_text(tokens)
    assert {embedding.dtype, feature.dtype, text.dtype} == {torch.float32}
    (gradient,) = torch.autograd.grad(embedding.sum(), pixels)
    assert gradient.dtype == torch.float32 and gradient.isfinite().all() and gradient.any()
    for ours, theirs in ((embedding, exact.encode_image(pixels)[0]), (text, exact.encode_text(tokens))):
        assert F.cosine_similarity(ours, theirs, dim=1).min() > 0.998
        assert not torch.equal(ours, theirs)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="torch.compile needs a compiler of another kind there")
def test_compiled_encoders_agree_in_every_view():
    plain, compiled = load_clip("made-thin", None), load_clip("made-thin", None, compile=True)
    pixels = torch.rand(2, 3, 32, 32)
    for backbone in (plain, compiled):
        backbone.adapt(LoraConfig(rank=2), seed=0)
        generator = torch.Generator().manual_seed(2)
        for parameter in backbone.trained_parameters():
            parameter.data.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
    tokens = plain.tokenize(TEXTS)

    def views(backbone):
        found = [*backbone.encode_image(pixels), backbone.encode_text(tokens)]
        with torch.no_grad(), backbone.reference():
            found += [*backbone.encode_image(pixels), backbone.encode_text(tokens)]
        with torch.no_grad(), backbone.merged():
            found += [*backbone.encode_image(pixels), backbone.encode_text(tokens)]
        return [*found, *backbone.encode_image(pixels)]

    expected = views(plain)
    assert (expected[0] - expected[3]).abs().max() > 1e-4
    for ours, theirs in zip(views(compiled), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
