"""One step: its parts, its prompts and its anchors."""

import pytest
import torch
from made import made_images, small_config, tiny_backbone
from method.learners import FIRST, SECOND, learnt, state

from segp_ext.method.anchors import Anchors
from segp_ext.method.learner import SeGPCL


def test_a_step_takes_its_own_number_of_anchors_and_tsgr_begins_in_the_first_task(monkeypatch):
    learner = SeGPCL(tiny_backbone(), small_config(training__batch_size=5, distillation__batch_size=4))
    assert "tsgr" in learner.learn_task(made_images(3, 10), FIRST).losses
    taken, take = [], Anchors.take
    monkeypatch.setattr(
        Anchors, "take", lambda self, pixels, which: (taken.append(which), take(self, pixels, which))[1]
    )
    assert learner.learn_task(made_images(2, 10, seed=3), SECOND).anchors == 9
    assert {len(set(which.tolist())) for which in taken} == {4, 9}  # of a step; of the transfer


@pytest.mark.parametrize("setting", [{"accumulate": 3}, {"accumulate": 50}, {"prompts_per_pass": 2}])
def test_a_step_in_parts_is_the_same_step(setting):
    # Seeds as anchors: a sign step would turn a difference in rounding into one in pixels.
    changes = {"training__optimizer": "sgd", "training__learning_rate": 0.01, "anchors__kind": "seeds"}
    whole = state(learnt(**changes)[0])
    parts = state(learnt(**changes, **{f"training__{name}": value for name, value in setting.items()})[0])
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, rtol=0, atol=2e-5)
    longer = state(learnt(**{**changes, "training__learning_rate": 0.011})[0])
    assert max((whole[n] - longer[n]).abs().max().item() for n in whole) > 1e-3  # steps a tenth longer would show


@pytest.mark.parametrize(
    ("changes", "prompts_a_step"),
    [
        ({"method": "lora"}, 2),
        ({"method": "lora", "training__classes": "seen"}, 5),
        ({"method": "lwf"}, 5),
        ({"anchors__kind": "none"}, 5),  # whose text geometry has old neighbours
    ],
)
def test_a_step_encodes_the_prompts_that_a_term_needs(changes, prompts_a_step, monkeypatch):
    learner = SeGPCL(tiny_backbone(), small_config(**changes))
    learner.learn_task(made_images(3, 10), FIRST)
    encoded, encode = [], learner.backbone.encode_text

    def counted(tokens):
        if torch.is_grad_enabled():
            encoded.append(len(tokens))
        return encode(tokens)

    monkeypatch.setattr(learner.backbone, "encode_text", counted)
    learner.learn_task(made_images(2, 10, seed=3), SECOND)
    assert encoded and set(encoded) == {prompts_a_step}
