"""Classes of several prompts, and classes with another name in their prompts: learning, predicting, saving and changing them."""

import json

import numpy as np
import pytest
import torch
from made import made_images, small_config, tiny_backbone

import segp_ext
from segp_ext.clip.wording import Wording
from segp_ext.method.learner import SeGPCL
from segp_ext.method.losses import TaskLosses

FIRST, SECOND = ["red", "green", "blue"], ["cat", "dog"]
ENSEMBLE = ["a photo of {}.", "art of {}.", "one {} there"]
WORDING = {"red": Wording(prompts=ENSEMBLE), "green": Wording("lime", ENSEMBLE[:2])}


def taught(wording=None, **changes):
    learner = SeGPCL(tiny_backbone(), small_config(**changes))
    learner.learn_task(made_images(3, 10), FIRST, wording=wording)
    learner.learn_task(made_images(2, 10, seed=3), SECOND)
    return learner


def test_text_embeddings_are_means_over_prompts():
    learner = taught(WORDING)
    backbone = learner.classifier().backbone

    def unit(*prompts):
        found = backbone.encode_text(backbone.tokenize(list(prompts))).numpy()
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    text = learner.text_embeddings().numpy()
    np.testing.assert_allclose(text[0], unit("a photo of red.", "art of red.", "one red there").mean(0), atol=1e-6)
    np.testing.assert_allclose(text[1], unit("a photo of lime.", "art of lime.").mean(0), atol=1e-6)
    plain = backbone.encode_text(backbone.tokenize(["a photo of blue.", "a photo of cat."])).numpy()
    np.testing.assert_allclose(text[2:4], plain, atol=1e-6)


def test_training_reads_the_first_prompt_or_a_drawn_one(monkeypatch):
    """With the template as the first prompt, training is as without an ensemble; prompts are drawn anew for each task."""
    same = {"red": Wording(prompts=ENSEMBLE), "green": Wording(prompts=ENSEMBLE)}
    alone, ensemble = taught(), taught(same)
    for name, tensor in alone.backbone.adapter_state().items():
        torch.testing.assert_close(ensemble.backbone.adapter_state()[name], tensor)
    assert not torch.equal(alone.text_embeddings()[:2], ensemble.text_embeddings()[:2])
    read, make = [], TaskLosses.__init__
    monkeypatch.setattr(
        TaskLosses,
        "__init__",
        lambda self, config, scale, task: (read.append(task), make(self, config, scale, task))[1],
    )
    drawn = taught(dict.fromkeys(FIRST, Wording(prompts=ENSEMBLE)), training__prompts="drawn")
    rows = {tuple(row) for row in drawn.tokens.tokens.tolist()}
    chosen = [[tuple(row) for row in task.tokens.tolist()] for task in read]
    assert {row for rows_of in chosen for row in rows_of} <= rows and chosen[0] != chosen[1][:3]
    again = taught(dict.fromkeys(FIRST, Wording(prompts=ENSEMBLE)), training__prompts="drawn")
    assert torch.equal(again.text_embeddings(), drawn.text_embeddings())


def test_the_teacher_reads_the_same_prompts_as_the_student(monkeypatch):
    tasks, make = [], TaskLosses.__init__
    monkeypatch.setattr(
        TaskLosses,
        "__init__",
        lambda self, config, scale, task: (tasks.append(task), make(self, config, scale, task))[1],
    )
    learner = SeGPCL(tiny_backbone(), small_config(training__prompts="drawn"))
    learner.learn_task(made_images(3, 10), FIRST, wording=WORDING)
    expected = {
        tuple(row): learner.backbone.encode_text(torch.tensor([row]))[0] for row in learner.tokens.tokens.tolist()
    }
    learner.learn_task(made_images(2, 10, seed=3), SECOND)
    for row, embedding in zip(tasks[1].tokens.tolist(), tasks[1].teacher_text, strict=False):
        torch.testing.assert_close(embedding, expected[tuple(row)])


def test_wordings_are_saved_renamed_and_merged(tmp_path):
    learner = taught(WORDING)
    learner.rename_class("green", "lime tree")
    assert learner.records[1].sentences("{}") == ["a photo of lime tree.", "art of lime tree."]
    learner.merge_classes(["red", "blue"], "blue")
    assert learner.records[0].sentences("x {}") == ["x blue"]
    learner.merge_classes(["lime tree", "cat"], "plant")
    assert learner.records[1].sentences("{}") == ["a photo of plant.", "art of plant."]


def test_wordings_are_saved(tmp_path):
    learner = SeGPCL(segp_ext.load_clip("glyph"), small_config(training__epochs=0, anchors__kind="none"))
    learner.learn_task(made_images(3, 4), ["0", "1", "2"], wording={"0": Wording("o", ["glyph {}", "a round sign"])})
    learner.save(tmp_path / "saved")
    again = SeGPCL.load(tmp_path / "saved")
    assert again.records == learner.records and torch.equal(again.text_embeddings(), learner.text_embeddings())
    state = json.loads((tmp_path / "saved/learner.json").read_text())
    assert state["classes"][0]["wording"] == {"called": "o", "prompts": ["glyph {}", "a round sign"]}


@pytest.mark.parametrize(
    ("wording", "error", "says"),
    [
        ({"yellow": Wording()}, ValueError, "wording names 'yellow', which is no class of this task"),
        ({"red": ["a {}"]}, TypeError, "wording of class 'red' must be a segp_ext.Wording; got list"),
        ({"red": Wording(prompts=["one " * 40])}, ValueError, "prompt"),
        ({"red": Wording(prompts=["a photo of blue."])}, ValueError, "class names 'red' and 'blue' read the same"),
    ],
)
def test_wrong_wordings_are_refused_and_nothing_is_learnt(wording, error, says):
    learner = SeGPCL(tiny_backbone(), small_config())
    with pytest.raises(error, match=says):
        learner.learn_task(made_images(3, 10), FIRST, wording=wording)
    assert learner.class_names == ()


def test_two_classes_may_be_called_alike_and_others_may_not():
    learner = SeGPCL(tiny_backbone(), small_config())
    called = {"pets/cat": Wording("cat"), "zoo/cat": Wording("cat")}
    learner.learn_task(made_images(3, 10), ["pets/cat", "zoo/cat", "dog"], wording=called)
    text = learner.text_embeddings()
    assert torch.equal(text[0], text[1]) and not torch.equal(text[0], text[2])
    with pytest.raises(ValueError, match="others: class names 'pets/cat' and 'cat' read the same"):
        learner.predict([made_images(1, 1)[0][0]], others=["cat"])


def test_a_known_class_keeps_its_wording():
    learner = SeGPCL(tiny_backbone(), small_config(known_classes="update"))
    learner.learn_task(made_images(3, 10), FIRST, wording=WORDING)
    learner.learn_task(made_images(3, 10), FIRST, wording={"red": Wording("pink")})
    assert learner.records[0].wording == WORDING["red"] and learner.task_sizes == [3, 0]
