"""What is evaluated after each task, on a learner whose scores are known."""

import json

import pytest
import torch
from made import encoded, images_of, made_images, small_config, tiny_backbone

from segp_ext.clip.backbone import Backbone
from segp_ext.data.scenario import Joined
from segp_ext.method.calibration import calibration_error
from segp_ext.method.learner import SeGPCL
from segp_ext.run.evaluation import Evaluated, EvaluationSet, Evaluator, PathResult

TASKS = [
    (["red", "green"], made_images(2, 6), made_images(2, 2)),
    (["blue"], made_images(1, 6, seed=2), made_images(1, 3, seed=2)),
    (["cat", "dog"], made_images(2, 6, seed=4), made_images(2, 4, seed=4)),
]


@pytest.fixture
def evaluator():
    learner = SeGPCL(tiny_backbone(), small_config(training__epochs=0))
    return Evaluator(learner, [EvaluationSet(names, images_of(test, learner.backbone)) for names, _, test in TASKS])


def made_evaluator(evaluate_global=True, **changes):
    learner = SeGPCL(tiny_backbone(), small_config(**changes))
    tests = [EvaluationSet(names, images_of(test, learner.backbone)) for names, _, test in TASKS]
    return Evaluator(learner, tests, evaluate_global=evaluate_global)


def learn(evaluator, count):
    learn_on(evaluator, 0, count)


def learn_on(evaluator, done, count):
    for names, train, _ in TASKS[done:count]:
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


def test_confusions_are_of_the_last_task_and_over_all_classes_seen(evaluator, monkeypatch):
    def always_the_first(self, embedding, feature, path=None):
        scores = torch.zeros(len(embedding), len(self.class_names))
        scores[:, 0 if path == "text" else -1] = 1
        return scores

    monkeypatch.setattr(SeGPCL, "scores", always_the_first)
    learn(evaluator, 1)
    # two images of each of "red" and "green"; the newest class is "green"
    assert evaluator.paths["text"].confusion == [[0, 0, 2], [1, 0, 2]]
    assert evaluator.paths["visual"].confusion == [[0, 1, 2], [1, 1, 2]]
    learn_on(evaluator, 1, 3)
    assert evaluator.paths["text"].confusion == [[0, 0, 2], [1, 0, 2], [2, 0, 3], [3, 0, 4], [4, 0, 4]]
    assert evaluator.paths["visual"].confusion == [[0, 4, 2], [1, 4, 2], [2, 4, 3], [3, 4, 4], [4, 4, 4]]


@pytest.mark.parametrize("epochs", [0, 2])
def test_confusions_hold_the_accuracies(epochs):
    evaluator = made_evaluator(training__epochs=epochs)
    learn(evaluator, 3)
    sizes, first = [2, 1, 2], [0, 2, 3]
    for result in evaluator.paths.values():
        right = [count if true == guess else 0 for true, guess, count in result.confusion]
        assert sum(right) / sum(count for *_, count in result.confusion) == result.pooled[-1]
        for start, size, accuracy in zip(first, sizes, result.matrix[-1], strict=True):
            of_task = [entry for entry in result.confusion if start <= entry[0] < start + size]
            hits = sum(count for true, guess, count in of_task if true == guess)
            assert hits / sum(count for *_, count in of_task) == accuracy


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
    assert {*evaluator.timer.phases} == {"evaluation"}
    assert evaluator.timer.phases["evaluation"].backbone > 0


def test_the_next_task_is_scored_over_its_own_classes(evaluator):
    learn(evaluator, 2)
    text = evaluator.paths["text"]
    assert text.next_task[0] is None  # task 1 has one class only, which is always right
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
    learn_on(evaluator, 2, 3)
    assert text.to_dict()["fwt"] == text.next_task[1]


def test_tasks_of_one_class_have_no_forward_transfer_but_a_global_one():
    learner = SeGPCL(tiny_backbone(), small_config(training__epochs=0))
    names = ("red", "green", "cat")
    tests = [EvaluationSet([n], images_of(made_images(1, 3, seed=i), learner.backbone)) for i, n in enumerate(names)]
    evaluator = Evaluator(learner, tests, evaluate_global=True)
    for number, test in enumerate(tests):
        learner.learn_task(made_images(1, 6, seed=number), test.class_names)
        evaluator.after_task()
    found = evaluator.paths["text"].to_dict()
    assert found["next_task"] == [None] * 3 and found["fwt"] is None and 0 <= found["global_fwt"] <= 1


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


ALL_NAMES = ["red", "green", "blue", "cat", "dog"]


def direct_global_row(learner, tests):
    """Accuracy on each task over all class names, by the model's own encoders."""
    text = torch.nn.functional.normalize(learner.encode_names(ALL_NAMES), dim=1)
    row, first = [], 0
    for test in tests:
        embedding, _ = encoded(learner, test.images)
        best = (torch.nn.functional.normalize(embedding, dim=1) @ text.T).argmax(1)
        row.append((best == test.images.labels + first).float().mean().item())
        first += len(test.class_names)
    return row


def test_global_rows_score_all_tasks_over_all_names_before_the_first_task_and_after_each():
    evaluator = made_evaluator(training__epochs=6, training__classes="seen")
    learner, text = evaluator.learner, evaluator.paths["text"]
    expected = [direct_global_row(learner, evaluator.tasks)]
    assert text.global_matrix == [pytest.approx(expected[0])]
    for names, train, _ in TASKS:
        learner.learn_task(train, names)
        expected.append(direct_global_row(learner, evaluator.tasks))
        evaluator.after_task()
    assert text.global_matrix == [pytest.approx(row) for row in expected]
    assert len({tuple(row) for row in expected}) == 4  # each task changes something
    counts = [4, 3, 8]
    pooled = [sum(a * n for a, n in zip(row, counts, strict=True)) / 15 for row in expected]
    assert text.global_pooled == pytest.approx(pooled)
    assert text.global_matrix[-1] == pytest.approx(text.matrix[-1])  # all classes are seen by then
    assert {path: bool(result.global_matrix) for path, result in evaluator.paths.items()} == {
        "text": True,
        "visual": False,
        "dual": False,
    }
    found = text.to_dict()
    assert found["global_R"] == text.global_matrix and found["global_A"] == text.global_pooled
    assert found["global_fwt"] == pytest.approx((expected[1][1] + expected[2][2]) / 2)


@pytest.mark.parametrize("changes", [{"training__epochs": 2}, {"training__epochs": 0}])
def test_the_other_numbers_do_not_depend_on_the_global_rows(changes):
    found = []
    for evaluate_global in (True, False):
        evaluator = made_evaluator(evaluate_global, **changes)
        learn(evaluator, 3)
        found.append({path: result.to_dict() for path, result in evaluator.paths.items()})
    extra = found[0]["text"].keys() - found[1]["text"].keys()
    assert extra == {"global_R", "global_A", "global_fwt", "global_bwt", "global_forgetting", "settings"}
    for path in found[0].values():
        for name in extra & path.keys():
            del path[name]
    assert found[0] == found[1]


@pytest.mark.parametrize(("evaluate_global", "counts"), [(True, [15, 15, 15, 15]), (False, [0, 7, 15, 15])])
def test_an_evaluation_encodes_every_image_once(evaluate_global, counts, monkeypatch):
    """With global rows all 15 test images of 4, 3 and 8; without, those of the classes seen and of the next task."""
    calls, encode = [], Backbone.encode_image
    monkeypatch.setattr(Backbone, "encode_image", lambda self, x: calls.append(len(x)) or encode(self, x))
    evaluator = made_evaluator(evaluate_global)
    passed = [sum(calls)]
    for names, train, _ in TASKS:
        evaluator.learner.learn_task(train, names)
        calls.clear()
        evaluator.after_task()
        passed.append(sum(calls))
    assert passed == counts


def test_an_evaluation_encodes_every_prompt_once_in_passes(monkeypatch):
    evaluator = made_evaluator(training__prompts_per_pass=2)
    learner = evaluator.learner
    learner.learn_task(TASKS[0][1], TASKS[0][0])
    calls, encode = [], learner.backbone.encode_text
    monkeypatch.setattr(learner.backbone, "encode_text", lambda tokens: calls.append(len(tokens)) or encode(tokens))
    evaluator.after_task()
    assert sum(calls) == len(ALL_NAMES) and max(calls) == 2


def test_the_global_rows_of_a_frozen_model_are_alike(monkeypatch):
    learner = SeGPCL(tiny_backbone(), small_config(training__epochs=0, anchors__kind="none"))
    learner.reader.memory = 0  # no features are kept
    tests = [EvaluationSet(names, images_of(test, learner.backbone)) for names, _, test in TASKS]
    evaluator = Evaluator(learner, tests, evaluate_global=True)
    expected = direct_global_row(learner, tests)
    calls, encode = [], Backbone.encode_image
    monkeypatch.setattr(Backbone, "encode_image", lambda self, x: calls.append(len(x)) or encode(self, x))
    learn(evaluator, 3)
    # 12, 6 and 12 training images for the class means; all 15 test images after each task, as other paths than text change
    assert sum(calls) == 12 + 6 + 12 + 3 * 15
    text = evaluator.paths["text"]
    assert text.global_matrix == [pytest.approx(expected)] * 4
    assert text.to_dict()["global_bwt"] == text.to_dict()["global_forgetting"] == 0


@pytest.mark.parametrize("measured", [True, False])
def test_an_evaluator_that_goes_on_has_global_rows_if_the_one_before_had(measured):
    first = made_evaluator(measured)
    learn(first, 1)
    written = json.dumps({path: result.to_dict() for path, result in first.paths.items()})
    kept = {path: PathResult.from_dict(found) for path, found in json.loads(written).items()}
    second = Evaluator(first.learner, first.tasks, None, Evaluated(kept, [], {}), evaluate_global=not measured)
    for evaluator in (first, second):
        if len(first.learner.task_sizes) == 1:
            first.learner.learn_task(TASKS[1][1], TASKS[1][0])
        evaluator.after_task()
    assert second.paths["text"].global_matrix == first.paths["text"].global_matrix
    assert len(second.paths["text"].global_matrix) == (3 if measured else 0)


def test_a_learner_is_followed_from_its_first_task_on(evaluator):
    learn(evaluator, 2)
    with pytest.raises(ValueError, match="the learner has learnt 2 tasks, and `earlier` tells of 0"):
        Evaluator(evaluator.learner, evaluator.tasks)


def test_names_that_read_the_same_are_refused_before_anything_is_learnt():
    learner = SeGPCL(tiny_backbone(), small_config())
    tests = [EvaluationSet(names, images_of(made_images(1, 2), learner.backbone)) for names in (["red"], ["Red"])]
    Evaluator(learner, tests)
    with pytest.raises(ValueError, match="class names 'red' and 'Red' read the same to the text encoder"):
        Evaluator(learner, tests, evaluate_global=True)


@pytest.mark.parametrize("together", [2, 3])
def test_tasks_that_are_learnt_at_once_have_a_global_row_each(together):
    """As a run with training.joint learns them: anew, with the images of all tasks so far."""
    evaluator = made_evaluator(training__joint=True, anchors__kind="none", prototypes__transfer="none")
    learner = evaluator.learner
    for count in (1, together):
        learner.forget()
        parts = TASKS[:count]
        sizes = [len(names) for names, _, _ in parts]
        places = [[*range(sum(sizes[:i]), sum(sizes[: i + 1]))] for i in range(count)]
        learner.learn_task(
            Joined([train for _, train, _ in parts], places), [n for names, _, _ in parts for n in names]
        )
        learner.task_sizes = sizes
        evaluator.after_task()
        assert evaluator.paths["text"].global_matrix[-1] == pytest.approx(direct_global_row(learner, evaluator.tasks))


def test_calibration_errors_are_measured_on_test_images_with_and_without_temperature():
    evaluator = made_evaluator(training__epochs=0, calibration__fraction=0.4)
    learn(evaluator, 2)
    learner = evaluator.learner
    encodings = [encoded(learner, task.images) for task in evaluator.tasks[:2]]
    label = torch.cat([task.images.labels + first for task, first in zip(evaluator.tasks, (0, 2), strict=False)])
    for path in ("text", "visual", "dual"):
        errors = evaluator.paths[path].calibration_error
        assert len(errors) == 2 and all(len(pair) == 2 for pair in errors)
        scores = torch.cat([learner.scores(embedding, feature, path) for embedding, feature in encodings])
        for got, temperature in zip(errors[1], (1.0, learner.calibration.temperature(path)), strict=True):
            assert got == pytest.approx(calibration_error((scores / temperature).softmax(dim=1), label), abs=1e-6)
    assert evaluator.paths["text"].calibration_error[1][0] != evaluator.paths["text"].calibration_error[1][1]


def test_a_learner_that_held_nothing_back_has_no_calibration_errors(evaluator):
    learn(evaluator, 2)
    assert (
        evaluator.paths["text"].calibration_error == [] and "calibration_error" not in evaluator.paths["text"].to_dict()
    )
