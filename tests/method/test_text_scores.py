"""Classes that read the same get the same scores of text, whatever a product rounds."""

from __future__ import annotations

import pytest
import torch
from made import made_images, small_config, tiny_backbone

from segp_ext.clip.wording import Wording
from segp_ext.method import text_scores as module
from segp_ext.method.learner import SeGPCL
from segp_ext.method.open_names import OpenNames
from segp_ext.method.text_scores import first_alike, text_scores
from segp_ext.serving.scorer import in_float32, program_of


@pytest.fixture
def rounds(monkeypatch):
    """Every product rounds its later columns up."""
    exact = module.clip_scores

    def rounding(embedding, text, scale):
        return exact(embedding, text, scale) + 1e-4 * torch.arange(len(text))

    monkeypatch.setattr(module, "clip_scores", rounding)


def test_the_first_of_each_is_found():
    a, b = torch.randn(2, 5)
    assert first_alike(torch.stack([a, b, a, b, a])).tolist() == [0, 1, 0, 1, 0]
    assert first_alike(torch.stack([a, b, a]).bfloat16()).tolist() == [0, 1, 0]
    assert first_alike(torch.stack([a, b, a]).T.contiguous().T).tolist() == [0, 1, 0]
    assert first_alike(torch.stack([a, b])) is None
    assert first_alike(torch.empty(0, 5)) is None
    assert first_alike(torch.empty(2, 5, device="meta")) is None


def test_rounding_does_not_part_them(rounds):
    a, b = torch.randn(2, 5)
    text = torch.stack([a, b, a])
    scores = text_scores(torch.randn(4, 5), text, first_alike(text), 100.0)
    assert (scores[:, 0] == scores[:, 2]).all() and (scores[:, 0] != scores[:, 1]).all()
    of_names = OpenNames(text, 1, text.flip(0)).of_text(torch.randn(4, 5), 100.0, 1.0)
    assert (of_names[:, 0] == of_names[:, 2]).all()


def test_learnt_classes_that_read_the_same_get_the_same_scores_of_text(rounds):
    learner = SeGPCL(tiny_backbone(), small_config())
    for source in ("a", "b"):
        wording = {f"{source}/{name}": Wording(name) for name in ("red", "green")}
        learner.learn_task(made_images(2, 8), [*wording], wording=wording)
    classifier = learner.classifier()
    pixels = torch.rand(6, 3, 8, 8)
    text = classifier.logits(pixels, "text")
    assert (text[:, :2] == text[:, 2:]).all()
    assert torch.equal(program_of(in_float32(classifier), "text").module()(pixels), text)
    dual, visual = classifier.logits(pixels, "dual"), classifier.logits(pixels, "visual")
    torch.testing.assert_close(dual, classifier.dual(text, visual))


def test_images_held_back_are_scored_likewise(rounds):
    learner = SeGPCL(tiny_backbone(), small_config(calibration__fraction=0.25))
    for source in ("a", "b"):
        wording = {f"{source}/{name}": Wording(name) for name in ("red", "green")}
        learner.learn_task(made_images(2, 16), [*wording], wording=wording)
    text = learner.held_back_scores()["text"]
    assert len(text) and (text[:, :2] == text[:, 2:]).all()
