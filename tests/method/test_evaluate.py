"""What is evaluated after each task, on a learner whose scores are known."""

import pytest
import torch
from method.made import made_images, small_config, tiny_backbone

from segp_ext.data.scenario import Scenario, Task
from segp_ext.evaluate import Evaluator
from segp_ext.learner import SeGPCL


@pytest.fixture
def evaluator():
    tasks = [
        Task(["red", "green"], made_images(2, 6), made_images(2, 2)),
        Task(["blue"], made_images(1, 6, seed=2), made_images(1, 3, seed=2)),
        Task(["cat", "dog"], made_images(2, 6, seed=4), made_images(2, 4, seed=4)),
    ]
    return Evaluator(Scenario("made", tasks, ""), SeGPCL(tiny_backbone(), small_config(training__epochs=0)))


def test_accuracies_are_over_all_classes_seen(evaluator, monkeypatch):
    def always_the_first(self, embedding, feature, path=None):
        scores = torch.zeros(len(embedding), len(self.class_names))
        scores[:, 0 if path == "text" else -1] = 1
        return scores

    monkeypatch.setattr(SeGPCL, "scores", always_the_first)
    for task in evaluator.scenario.tasks:
        evaluator.learner.learn_task(task.train, task.class_names)
        evaluator.after_task()
    text, visual = evaluator.paths["text"], evaluator.paths["visual"]
    # always "red": half of task 0, nothing else; pooled over 4, 7 and 15 images
    assert text.matrix == [[0.5], [0.5, 0.0], [0.5, 0.0, 0.0]]
    assert text.pooled == pytest.approx([2 / 4, 2 / 7, 2 / 15])
    # always the newest class: right on half of task 0, then all of task 1, then half of task 2
    assert visual.matrix == [[0.5], [0.0, 1.0], [0.0, 0.0, 0.5]]
    assert visual.pooled == pytest.approx([2 / 4, 3 / 7, 4 / 15])


def test_the_next_task_is_scored_over_its_own_classes(evaluator):
    for task in evaluator.scenario.tasks[:2]:
        evaluator.learner.learn_task(task.train, task.class_names)
        evaluator.after_task()
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
    for task in evaluator.scenario.tasks[:2]:
        evaluator.learner.learn_task(task.train, task.class_names)
        evaluator.after_task()
    learner = evaluator.learner
    assert len(evaluator.prototype_distance) == 1
    before, after = evaluator.prototype_distance[0]
    assert before == after  # a frozen model transfers nothing
    _, feature = learner.encode(evaluator.images[0])
    means = torch.stack([feature[:2].mean(0), feature[2:].mean(0)])
    expected = (1 - torch.nn.functional.cosine_similarity(learner.prototypes[:2], means)).mean().item()
    assert after == pytest.approx(expected, abs=1e-6)
