"""One step: its parts, its prompts and its anchors."""

import pytest
import torch
from made import made_images, small_config, tiny_backbone
from method.learners import FIRST, SECOND, learnt, state

from segp_ext import ops
from segp_ext.method.anchors import Anchors
from segp_ext.method.inputs import TaskInputs
from segp_ext.method.learner import SeGPCL
from segp_ext.method.losses import Samples
from segp_ext.method.losses.distillation import Acgd
from segp_ext.runtime.processes import Processes


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


def old_classes_of_steps(monkeypatch, **changes):
    """Teaches eight classes, then two more; returns the old classes whose prompts each step of the second task encoded."""
    learner = SeGPCL(tiny_backbone(), small_config(training__batch_size=5, text_geometry__weight=0.0, **changes))
    names = ["red", "green", "blue", "one", "two", "six", "cow", "hen"]
    learner.learn_task(made_images(8, 5), names)
    tokens = {tuple(row): c for c, row in enumerate(learner.tokens.plain().tolist())}
    encoded, encode = [], learner.backbone.encode_text

    def counted(rows):
        if torch.is_grad_enabled():
            encoded.append({c for row in rows.tolist() if (c := tokens.get(tuple(row))) is not None})
        return encode(rows)

    with monkeypatch.context() as patch:
        patch.setattr(learner.backbone, "encode_text", counted)
        learner.learn_task(made_images(2, 10, seed=3), SECOND)
    return encoded, state(learner)


def test_a_step_can_leave_out_old_classes_without_an_anchor_in_it(monkeypatch):
    """With two anchors a step, at most two old classes; with all anchors, the step is the paper's."""
    few, _ = old_classes_of_steps(monkeypatch, distillation__classes="anchors", distillation__batch_size=2)
    assert all(1 <= len(classes) <= 2 for classes in few) and len(set().union(*few)) == 8
    every = {"distillation__batch_size": 1000, "training__optimizer": "sgd", "training__learning_rate": 0.01}
    whole, papers = old_classes_of_steps(monkeypatch, **every)
    alike, ours = old_classes_of_steps(monkeypatch, distillation__classes="anchors", **every)
    assert whole == alike and all(classes == {*range(8)} for classes in whole)
    for name, tensor in papers.items():
        torch.testing.assert_close(ours[name], tensor)


def test_distillation_over_fewer_classes_is_over_the_classes_of_the_anchors():
    """The loss of a step is the loss of equations 16 to 18 on the columns of the step's classes."""
    draw = torch.Generator().manual_seed(0)
    made = Anchors(6, None, (4, 5), torch.device("cpu"), torch.float32, None, Processes())
    made.embedding.copy_(torch.randn(6, 4, generator=draw))
    text, student = torch.randn(3, 4, generator=draw), torch.randn(5, 4, generator=draw)
    config = small_config(distillation__classes="anchors", distillation__temperature=50.0)
    classes = torch.tensor([0, 0, 1, 1, 2, 2])
    task = TaskInputs(2, None, torch.zeros(5, 3), range(3, 5), made, text, None, classes)
    loss, drawn, embedding = Acgd(config, task, 100.0), torch.tensor([1, 4]), torch.randn(2, 4, generator=draw)
    assert loss.classes_of_step(drawn).tolist() == [0, 2]
    found = loss.of_anchors(Samples(embedding, embedding, drawn, classes, made), student)
    expected = ops.geometry_distill(
        embedding, student[[0, 2]], made.embedding[drawn], text[[0, 2]], logit_scale=100.0, temperature=50.0
    )
    torch.testing.assert_close(found, expected)
