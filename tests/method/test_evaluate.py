"""What is evaluated after each task, on a learner whose scores are known."""

import pytest
import torch
from method.made import encoded, images_of, made_images, small_config, tiny_backbone

from segp_ext.evaluate import EvaluationSet, Evaluator
from segp_ext.learner import SeGPCL

TASKS = [
    (["red", "green"], made_images(2, 6), made_images(2, 2)),
    (["blue"], made_images(1, 6, seed=2), made_images(1, 3, seed=2)),
    (["cat", "dog"], made_images(2, 6, seed=4), made_images(2, 4, seed=4)),
]


@pytest.fixture
def evaluator():
    learner = SeGPCL(tiny_backbone(), small_config(training__epochs=0))
    return Evaluator(learner, [EvaluationSet(names, images_of(test, learner.backbone)) for names, _, test in TASKS])


def learn(evaluator, count):
    for names, train, _ in TASKS[:count]:
        evaluator.learner.learn_task(train, names)
        evaluator.after_task()


def test_accuracies_are_over_all_classes_seen(evaluator, monkeypatch):
    def always_the_first(self, embedding, feature, path=None):
        scores = torch.zeros(len(embedding), len(self.class_names))
        scores[:, 0 if path == "text" else -1] = 1
        return scores

    monkeypatch.setattr(SeGPCL, "scores", always_the_first)
    learn(evaluator, 3)
    text, visual = evaluator.paths["text"], evaluator.paths["visual"]
    # always "red": half of task 0, nothing else; pooled over 4, 7 and 15 images
    assert text.matrix == [[0.5], [0.5, 0.0], [0.5, 0.0, 0.0]]
    assert text.pooled == pytest.approx([2 / 4, 2 / 7, 2 / 15])
    # always the newest class: right on half of task 0, then all of task 1, then half of task 2
    assert visual.matrix == [[0.5], [0.0, 1.0], [0.0, 0.0, 0.5]]
    assert visual.pooled == pytest.approx([2 / 4, 3 / 7, 4 / 15])


@pytest.mark.parametrize("beta", [0.3, 3.0])
def test_every_path_is_evaluated_as_it_predicts(beta):
    learner = SeGPCL(tiny_backbone(), small_config(training__epochs=2, inference__beta=beta))
    test = images_of(made_images(2, 30, seed=9), learner.backbone)
    evaluator = Evaluator(learner, [EvaluationSet(["red", "green"], test)])
    learner.learn_task(made_images(2, 6), ["red", "green"])
    evaluator.after_task()
    pixels = learner.backbone.to_unit(torch.cat([batch for _, batch in test.read(test.batches(8))]))
    for path, result in evaluator.paths.items():
        hits = learner.logits(pixels, path).argmax(1).cpu() == test.labels
        assert result.pooled == [pytest.approx(hits.float().mean().item())]
    assert len({result.pooled[0] for result in evaluator.paths.values()}) > 1


@pytest.mark.parametrize(
    ("bad", "message"),
    [(4, "test images of task 1 are"), (7, "test images of task 2 are"), (15, "test images of other are")],
)
def test_scores_that_are_not_finite_are_an_error(evaluator, bad, message, monkeypatch):
    """One image's feature is not a number; its score would be highest for class 0, as argmax sees it."""
    learner = evaluator.learner
    evaluator.held_out, evaluator.retention = {"other": evaluator.tasks[2]}, {"other": []}
    learner.learn_task(TASKS[0][1], TASKS[0][0])
    seen, encode = [], learner.backbone.encode_image

    def broken(pixels):
        embedding, feature = encode(pixels)
        seen.extend(range(len(pixels)))
        wrong = bad - 1 - (len(seen) - len(pixels))
        if 0 <= wrong < len(pixels):
            embedding[wrong, 0] = torch.nan
        return embedding, feature

    monkeypatch.setattr(learner.backbone, "encode_image", broken)
    with pytest.raises(FloatingPointError, match=message):
        evaluator.after_task()


@pytest.mark.parametrize("memory", [0, 10**6])
def test_a_frozen_models_features_are_kept_where_there_is_memory(evaluator, memory):
    evaluator.learner.reader.memory = memory
    calls, encode = [], evaluator.learner.backbone.encode_image
    evaluator.learner.backbone.encode_image = lambda x: calls.append(len(x)) or encode(x)
    evaluator.learner.learn_task(TASKS[0][1], TASKS[0][0])
    first, counts = [], []
    for _ in range(2):
        calls.clear()
        first.append([(v.clone(), z.clone()) for _, v, z in evaluator._features(0)])
        counts.append(sum(calls))
    assert counts == ([4, 0] if memory else [4, 4])
    for (v, z), (again_v, again_z) in zip(*first, strict=True):
        assert torch.equal(v, again_v) and torch.equal(z, again_z)


def test_time_is_told_by_phase(evaluator):
    learn(evaluator, 1)
    assert {*evaluator.timer.phases} == {"text", "evaluation"}
    assert evaluator.timer.phases["evaluation"].backbone > 0


def test_the_next_task_is_scored_over_its_own_classes(evaluator):
    learn(evaluator, 2)
    text = evaluator.paths["text"]
    assert text.next_task[0] == 1.0  # task 1 has one class only
    assert evaluator.paths["visual"].next_task == [None, None]
    backbone = evaluator.learner.backbone
    with torch.no_grad():
        images = backbone.to_unit(torch.stack([torch.from_numpy(made_images(2, 4, seed=4)[i][0]) for i in range(8)]))
        v = torch.nn.functional.normalize(backbone.encode_image(images)[0], dim=1)
        u = torch.nn.functional.normalize(
            backbone.encode_text(backbone.tokenize(["a photo of cat.", "a photo of dog."])), dim=1
        )
    expected = ((v @ u.T).argmax(1) == torch.tensor([0] * 4 + [1] * 4)).float().mean().item()
    assert text.next_task[1] == pytest.approx(expected)


def test_prototype_distance_before_and_after_transfer(evaluator):
    learn(evaluator, 2)
    learner = evaluator.learner
    assert len(evaluator.prototype_distance) == 1
    before, after = evaluator.prototype_distance[0]
    assert before == after  # a frozen model transfers nothing
    _, feature = encoded(learner, evaluator.tasks[0].images)
    means = torch.stack([feature[:2].mean(0), feature[2:].mean(0)])
    expected = (1 - torch.nn.functional.cosine_similarity(learner.prototypes[:2], means)).mean().item()
    assert after == pytest.approx(expected, abs=1e-6)


def test_held_out_sets_are_scored_before_and_after_every_task():
    learner = SeGPCL(tiny_backbone(), small_config(training__epochs=3))
    tests = [EvaluationSet(names, images_of(test, learner.backbone)) for names, _, test in TASKS]
    names = ["cat", "dog", "red", "green"]
    held = {"animals": EvaluationSet(names, images_of(made_images(4, 20, seed=4), learner.backbone))}
    evaluator = Evaluator(learner, tests, held)

    def accuracy():
        embedding, _ = encoded(learner, held["animals"].images)
        text = learner.encode_names(held["animals"].class_names)
        scores = torch.nn.functional.normalize(embedding, dim=1) @ torch.nn.functional.normalize(text, dim=1).T
        return (scores.argmax(1) == held["animals"].images.labels).float().mean().item()

    expected = [accuracy()]
    for task_names, train, _ in TASKS[:2]:
        learner.learn_task(train, task_names)
        expected.append(accuracy())
        evaluator.after_task()
    assert evaluator.retention == {"animals": pytest.approx(expected)} and len(set(expected)) > 1
