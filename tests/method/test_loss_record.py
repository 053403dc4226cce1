"""Losses and gradients that stop being finite are named."""

import pytest
from made import made_images, small_config, tiny_backbone
from method.learners import FIRST, SECOND, learnt, same, state

from segp_ext.method.learner import SeGPCL


def test_a_loss_that_stops_being_finite_is_named_and_undone(monkeypatch):
    learner = SeGPCL(tiny_backbone(), small_config())
    learner.learn_task(made_images(3, 10), FIRST)
    before = state(learner)
    calls = []

    def broken(*arguments):
        from segp_ext.method.losses import classification_loss

        calls.append(1)
        return classification_loss(*arguments) * (float("nan") if len(calls) == 3 else 1.0)

    monkeypatch.setattr("segp_ext.method.losses.classification.classification_loss", broken)
    with pytest.raises(FloatingPointError, match="task 2, epoch 1, step 3: classification nan"):
        learner.learn_task(made_images(2, 10, seed=3), SECOND)
    assert same(before, state(learner)) and list(learner.class_names) == FIRST
    monkeypatch.undo()
    learner.learn_task(made_images(2, 10, seed=3), SECOND)
    assert same(state(learner), state(learnt()[0]))  # as if nothing had happened


def test_a_gradient_that_stops_being_finite_is_named_and_undone(monkeypatch):
    learner = SeGPCL(tiny_backbone(), small_config())
    before = state(learner)
    calls, original = [], type(learner.backbone).backward

    def broken(self, output, gradient):
        calls.append(1)  # images, then text, at every step
        original(self, output, gradient * (float("inf") if len(calls) == 4 else 1.0))

    monkeypatch.setattr(type(learner.backbone), "backward", broken)
    with pytest.raises(
        FloatingPointError, match="the gradient is not finite in task 1, epoch 1, step 2: classification"
    ):
        learner.learn_task(made_images(3, 10), FIRST)
    assert len(calls) == 4  # caught in that very step
    assert same(before, state(learner))
