"""ACGD: what it holds, and its weight."""

import pytest
import torch
from made import encoded, images_of, made_images, small_config, tiny_backbone
from method.learners import FIRST, SECOND, learnt

from segp_ext.method.learner import SeGPCL


def test_strong_distillation_keeps_the_teachers_scores_on_anchors():
    moved = []
    for weight in (0.0, 500.0):
        learner, _ = learnt(distillation__weight=weight, text_geometry__weight=0.0, training__epochs=6)
        embedding, feature = encoded(learner, images_of(made_images(2, 10, seed=3), learner.backbone))
        only_first = SeGPCL(tiny_backbone(), small_config(training__epochs=6, text_geometry__weight=0.0))
        only_first.learn_task(made_images(3, 10), FIRST)
        reference, _ = encoded(only_first, images_of(made_images(2, 10, seed=3), only_first.backbone))
        old = [
            m.scores(v, feature, "text")[:, :3].softmax(dim=1)
            for m, v in ((learner, embedding), (only_first, reference))
        ]
        moved.append((old[0] - old[1]).abs().mean().item())
    assert moved[1] < 0.5 * moved[0]


def test_the_weight_of_acgd_is_stated_at_a_scale_of_100():
    """Halving the logit scale doubles the weight, so the reported term over the raw loss changes by the same factor."""
    from segp_ext.method.losses import distillation as module

    terms = {}
    for scale in (100.0, 50.0):
        learner = SeGPCL(tiny_backbone(), small_config(training__learning_rate=1e-9))
        learner.backbone.clip.logit_scale.data.fill_(torch.tensor(scale).log().item())
        learner.learn_task(made_images(3, 10), FIRST)
        raw = []
        original = module.ops.geometry_distill
        module.ops.geometry_distill = lambda *a, _raw=raw, _f=original, **k: (
            _raw.append(torch.ones(())) or _f(*a, **k) * 0 + 1
        )
        try:
            terms[scale] = learner.learn_task(made_images(2, 10, seed=3), SECOND).losses["acgd"]
        finally:
            module.ops.geometry_distill = original
        assert raw
    assert terms[100.0] == pytest.approx(5) and terms[50.0] == pytest.approx(10)
