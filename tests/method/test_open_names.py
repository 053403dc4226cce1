"""Scores where names compete that were never learnt, and the gate that leaves these to the untouched model."""

import numpy as np
import pytest
import torch
from made import images_of, made_images, shake, small_config, tiny_backbone
from scipy.special import softmax

from segp_ext.clip.wording import Wording
from segp_ext.config import Config, from_dict, with_method
from segp_ext.method.classifier import Classifier
from segp_ext.method.learner import SeGPCL
from segp_ext.method.open_names import gated, with_others
from segp_ext.run.evaluation import EvaluationSet, Evaluator

draw = np.random.RandomState(0)
PATH, TEXT, UNTOUCHED = (softmax(draw.randn(4, width), axis=1) for width in (3, 5, 5))


def logs(values):
    return torch.tensor(np.log(values))


def test_names_that_were_never_learnt_get_the_share_that_text_gives_them():
    found = with_others(logs(PATH), logs(TEXT)).exp().numpy()
    np.testing.assert_allclose(found[:, 3:], TEXT[:, 3:])
    np.testing.assert_allclose(found[:, :3], PATH * TEXT[:, :3].sum(axis=1, keepdims=True))
    np.testing.assert_allclose(with_others(logs(PATH), logs(PATH)).exp().numpy(), PATH)  # no other names


def test_a_gate_leaves_far_images_and_other_names_to_the_untouched_model():
    scores = with_others(logs(PATH), logs(TEXT))
    far = torch.tensor([True, False, False, True])
    found = gated(scores, logs(UNTOUCHED), far, 3).exp().numpy()
    np.testing.assert_allclose(found.sum(axis=1), 1)
    np.testing.assert_allclose(found[[0, 3]], UNTOUCHED[[0, 3]])
    near = found[1:3]
    np.testing.assert_allclose(near[:, :3], scores.exp().numpy()[1:3, :3])
    share = UNTOUCHED[1:3, 3:] / UNTOUCHED[1:3, 3:].sum(axis=1, keepdims=True)
    np.testing.assert_allclose(near[:, 3:], share * TEXT[1:3, 3:].sum(axis=1, keepdims=True))


def learner_with_gate(gate, frozen_head=False, **changes):
    settings = {
        "calibration__fraction": 0.3,
        "inference__gate": gate,
        "prototypes__frozen_head": frozen_head,
        **changes,
    }
    learner = SeGPCL(tiny_backbone(), small_config(**settings))
    learner.learn_task(made_images(3, 10), ["red", "green", "blue"])
    shake(learner.backbone)
    return learner


@pytest.mark.parametrize("frozen_head", [False, True])
def test_what_was_not_learnt_is_scored_as_before_all_learning(frozen_head):
    """With a limit that takes nearly all images, answers are the untouched model's; with others alone, their order always is."""
    pixels = torch.rand(12, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    others, before = ["cat", "dog", "cow"], SeGPCL(tiny_backbone(), small_config(training__epochs=0))
    image, text = before.backbone.encode_image(pixels)[0], before.encode_names(["red", "green", "blue", *others])
    scores = (
        before.backbone.logit_scale
        * torch.nn.functional.normalize(image, dim=1)
        @ torch.nn.functional.normalize(text, dim=1).T
    )
    learner = learner_with_gate(0.999, frozen_head)
    classifier = learner.classifier()
    temperature = classifier.temperature("text")
    expected = (scores.double() / temperature).softmax(dim=1)
    far = classifier.is_far(classifier.features(pixels, "dual", on_frozen=True))
    assert far.any()
    found = classifier.answer(pixels, "dual", others).probabilities
    torch.testing.assert_close(found[far], expected[far], rtol=0, atol=1e-5)
    off = learner_with_gate(None, frozen_head).classifier().answer(pixels, "dual", others).probabilities
    assert (found - off).abs().max() > 1e-3  # the adapter changes the answers without a gate
    torch.testing.assert_close(  # without others there is nothing to leave to it
        classifier.answer(pixels, "dual").probabilities,
        learner_with_gate(None, frozen_head).classifier().answer(pixels, "dual").probabilities,
    )


def test_only_images_that_need_it_pass_twice(monkeypatch):
    learner = SeGPCL(tiny_backbone(), small_config(calibration__fraction=0.3, inference__gate=0.3, training__epochs=6))
    learner.learn_task(made_images(3, 20), ["red", "green", "blue"])
    classifier, passed = learner.classifier(), []
    encode = classifier.untouched.encode_image
    monkeypatch.setattr(classifier.untouched, "encode_image", lambda x: passed.append(len(x)) or encode(x))
    seen = torch.stack([torch.tensor(image) / 255 for image, _ in made_images(3, 6)]).float()
    pixels = torch.cat([seen, torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))])
    features = classifier.features(pixels, "visual", on_text=True)
    scores = classifier.open_scores(features, "visual", classifier.open_names(["cat"]))
    needed = classifier.is_far(features) | (scores.argmax(dim=1) == 3)  # where one other name competes
    answer = classifier.answer(pixels, "visual", ["cat"])
    assert 0 < int(needed.sum()) < len(pixels) and passed == [int(needed.sum())]
    torch.testing.assert_close(answer.probabilities[~needed], scores.exp()[~needed])


def test_answers_are_those_of_a_second_pass_for_all_images(monkeypatch):
    """The untouched model may give one other name all that the other names have together, and so more than the best learnt class has."""
    monkeypatch.setattr(Classifier, "is_far", lambda self, features: torch.zeros(400, dtype=torch.bool))
    others, pixels = ["cat", "dog", "cow", "hen"], torch.rand(400, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    classifier = learner_with_gate(0.01).classifier()
    names, features = classifier.open_names(others), classifier.features(pixels, "dual")
    scores, scale = classifier.open_scores(features, "dual", names), classifier.backbone.logit_scale
    embedding = classifier.untouched.encode_image(pixels)[0]
    untouched = names.of_text(embedding, scale, classifier.temperature("text"), untouched=True)
    expected = gated(scores, untouched, classifier.is_far(features), 3).argmax(dim=1)
    assert ((scores.argmax(dim=1) < 3) & (expected >= 3)).any()
    assert (classifier.answer(pixels, "dual", others).probabilities.argmax(dim=1) == expected).all()


def test_the_same_other_names_in_another_order_and_twice():
    classifier, pixels = learner_with_gate(None).classifier(), torch.rand(6, 3, 8, 8)
    found = classifier.answer(pixels, "dual", ["cat", "dog"]).probabilities
    torch.testing.assert_close(
        classifier.answer(pixels, "dual", ["dog", "cat"]).probabilities,
        found[:, [0, 1, 2, 4, 3]],
        rtol=1e-5,
        atol=1e-6,
    )
    with pytest.raises(ValueError, match="others: class name 'dog' is given twice"):
        classifier.answer(pixels, "dual", ["dog", "cat", "dog"])


def test_a_gate_that_is_taken_away_is_away():
    learner = learner_with_gate(0.05)
    assert learner.classifier().untouched is not None
    learner.config.inference.gate = None
    assert learner.classifier().untouched is None
    learner.config.inference.gate = 0.05
    assert learner.classifier().untouched is not None


NAMES = [["red", "green"], ["blue", "cat"], ["dog", "cow"]]


def evaluated(**changes):
    """The paths' results after three tasks, measured on all names."""
    learner = SeGPCL(tiny_backbone(), small_config(calibration__fraction=0.3, **changes))
    tests = [
        EvaluationSet(own, images_of(made_images(2, 12, seed=2 * i), learner.backbone)) for i, own in enumerate(NAMES)
    ]
    evaluator = Evaluator(learner, tests, evaluate_global=True)
    for i, own in enumerate(NAMES):
        learner.learn_task(made_images(2, 8, seed=2 * i), own)
        evaluator.after_task()
    return evaluator.paths


def test_a_gate_changes_nothing_where_only_learnt_names_compete():
    gate, none = (evaluated(inference__gate=gate, training__epochs=4) for gate in (0.9, None))
    for path in none:
        for after in range(1, 4):
            known = [paths[path].whole["task-known"][after][:after] for paths in (gate, none)]
            assert known[0] == known[1], (path, after)
    assert gate["visual"].whole["global"] != none["visual"].whole["global"]


def test_a_model_that_never_trains_has_a_gate_too():
    """Its untouched model is itself, so that the gate changes nothing on the path text."""
    gate, none = (evaluated(inference__gate=gate, training__epochs=0) for gate in (0.9, None))
    assert gate["text"].whole == none["text"].whole
    assert gate["visual"].whole["global"] != none["visual"].whole["global"]


@pytest.mark.parametrize("epochs", [0, 4])
def test_of_classes_that_read_the_same_text_names_the_first(epochs):
    """Two data sets share both names. Before and after all learning, text alone gives every image a name of the first one."""
    learner = SeGPCL(tiny_backbone(), small_config(training__epochs=epochs, training__prompts_per_pass=3))
    shared = ["red", "green", "blue"]
    tests = []
    for source in ("a", "b"):
        names = [f"{source}/{name}" for name in shared]
        wording = {f"{source}/{name}": Wording(name) for name in shared}
        tests.append(EvaluationSet(names, images_of(made_images(3, 12), learner.backbone), wording))
    evaluator = Evaluator(learner, tests, evaluate_global=True)
    for test in tests:
        learner.learn_task(made_images(3, 8), test.class_names, wording=test.wording)
        evaluator.after_task()
    whole = evaluator.paths["text"].whole
    for of_all, known in zip(whole["global"], whole["task-known"], strict=True):
        assert of_all == [known[0], 0.0] and known[0] == known[1]


def test_zero_shot_accuracy_on_names_that_are_not_learnt_stays_to_the_image():
    """The accuracies of tasks that are not learnt yet, and of held-out sets, are those before the first task."""
    settings = {"calibration__fraction": 0.3, "inference__gate": 0.05, "training__epochs": 4}
    learner = SeGPCL(tiny_backbone(), small_config(**settings))
    names = [["red", "green"], ["blue", "cat"], ["dog", "cow"]]
    tests = [
        EvaluationSet(own, images_of(made_images(2, 12, seed=2 * i), learner.backbone)) for i, own in enumerate(names)
    ]
    held = EvaluationSet(["one", "two", "six"], images_of(made_images(3, 12, seed=9), learner.backbone))
    evaluator = Evaluator(learner, tests, {"held": held}, evaluate_global=True)
    for i, own in enumerate(names):
        learner.learn_task(made_images(2, 8, seed=2 * i), own)
        evaluator.after_task()
    assert len({*evaluator.retention["held"]}) == 1
    for path, result in evaluator.paths.items():
        known = result.whole["task-known"]
        assert all(known[after][task] == known[0][task] for task in range(3) for after in range(task + 1)), path
        assert known[3] != known[0]


def test_a_gate_needs_images_held_back_and_a_share():
    with pytest.raises(ValueError, match="calibration.fraction must be above 0 with inference.gate; got 0"):
        from_dict(Config, {"inference": {"gate": 0.05}})
    from_dict(Config, {"inference": {"gate": 0.05}, "method": "auto"})  # which holds images back
    with pytest.raises(ValueError, match="calibration.fraction must be above 0 with inference.gate; got 0"):
        from_dict(Config, {"inference": {"gate": 0.05}, "method": "zero-shot"})
    assert with_method(from_dict(Config, {"inference": {"gate": 0.05}, "method": "auto"})).calibration.fraction == 0.2
    for wrong in (0.0, 1.0, -1.0):
        with pytest.raises(ValueError, match="inference.gate must be above 0 and below 1, or null"):
            from_dict(Config, {"inference": {"gate": wrong}, "calibration": {"fraction": 0.2}})
