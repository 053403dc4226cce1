"""One task: its anchors, its prototypes, and what is undone when it fails."""

import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from made import encoded, images_of, made_images, small_config, tiny_backbone
from method.learners import FIRST, SECOND, learnt, same, state

from segp_ext.config import LoadingConfig
from segp_ext.method.anchors import Anchors
from segp_ext.method.learner import SeGPCL


@pytest.mark.parametrize("features", ["unit", "raw"])
def test_frozen_prototypes_are_class_means(features):
    learner, _ = learnt(method="frozen-prototypes", prototypes__features=features)
    data = made_images(3, 10)
    images = images_of(data, learner.backbone)
    _, feature = encoded(learner, images)
    taken = F.normalize(feature, dim=1) if features == "unit" else feature
    expected = torch.stack([taken[images.labels == c].mean(dim=0) for c in range(3)])
    torch.testing.assert_close(learner.prototypes[:3], F.normalize(expected, dim=1) if features == "unit" else expected)


def test_features_that_are_not_finite_are_named_and_nothing_is_changed(monkeypatch):
    learner = SeGPCL(tiny_backbone(), small_config())
    learner.learn_task(made_images(3, 10), FIRST)
    before, made = state(learner), Anchors.write

    def broken(self, start, pixels, embedding, feature):
        made(self, start, pixels, embedding, feature.index_fill(0, torch.tensor([1]), float("inf")))

    monkeypatch.setattr(Anchors, "write", broken)
    with pytest.raises(FloatingPointError, match=r"features of anchor 1 are not finite in task 2 .* of 9 anchors"):
        learner.learn_task(made_images(2, 10, seed=3), SECOND)
    assert same(before, state(learner))


def test_a_learner_that_diverged_is_refused_and_undone():
    # One step: its loss was finite before the optimiser moved, so only the check of what was learnt can see it.
    one_step = {"training__epochs": 1, "training__batch_size": 64}
    learner = SeGPCL(tiny_backbone(), small_config(training__learning_rate=1e30, **one_step))
    before = state(learner)
    with pytest.raises(FloatingPointError, match="stopped being finite in task 1"):
        learner.learn_task(made_images(3, 10), FIRST)
    assert same(before, state(learner)) and list(learner.class_names) == []


@pytest.mark.parametrize("method", ["segp", "lwf"])
def test_what_is_learnt_of_images_drawn_at_random_does_not_depend_on_memory(method):
    """Their teacher's and student's features are of the same pixels; a memory of none decodes, and draws, on every pass."""

    class Augmented:
        def __init__(self, plain):
            self.plain, self.labels = plain, plain.labels

        def __len__(self):
            return len(self.plain)

        def __getitem__(self, index):
            image, label = self.plain[index]
            return np.roll(image[..., :: random.choice([1, -1])], int(torch.randint(8, ())), axis=1), label

    found = []
    for memory_gb in (1, 0):
        learner = SeGPCL(tiny_backbone(), small_config(method=method, loading=LoadingConfig(memory_gb=memory_gb)))
        random.seed(memory_gb), torch.manual_seed(memory_gb)
        learner.learn_task(Augmented(made_images(3, 10)), FIRST)
        learner.learn_task(Augmented(made_images(2, 10, seed=3)), SECOND)
        found.append(state(learner))
    assert same(*found) and not same(found[0], state(learnt(method=method)[0]))


def test_a_weight_of_zero_leaves_the_anchors_out_of_training():
    """They still move the prototypes. More parts than images leaves some without any."""
    learner, (_, second) = learnt(distillation__weight=0.0, training__accumulate=50)
    assert second.anchors > 0 and set(second.losses) == {"classification", "tsgr"}
    assert not torch.equal(learner.untransferred, learner.prototypes[:3])


def test_anchors_that_nothing_reads_are_not_made():
    unread = {"distillation__weight": 0.0, "prototypes__transfer": "none"}
    learner, (_, second) = learnt(**unread)
    assert second.anchors == 0 and learner.untransferred is None
    assert not small_config(training__joint=True).uses_anchors


@pytest.mark.parametrize("method", ["segp", "adc"])
def test_a_task_smaller_than_the_seeds_takes_what_is_there(method):
    learner = SeGPCL(tiny_backbone(), small_config(method=method, anchors__seeds_per_class=11, min_images_per_class=1))
    learner.learn_task(made_images(3, 2), FIRST)  # the first task needs no seeds
    with pytest.warns(
        RuntimeWarning, match="task 2 has 4 training images, fewer than the .* seeds.*every old class takes all"
    ) as said:
        report = learner.learn_task(made_images(2, 2, seed=3), SECOND)
    assert report.anchors == 3 * 4 and [warning.filename for warning in said] == [__file__]


@pytest.mark.parametrize("classes", ["new", "seen"])
def test_a_class_alone_in_its_task_is_learnt_by_its_prototype(classes, recwarn):
    learner = SeGPCL(tiny_backbone(), small_config(training__classes=classes))
    learner.learn_task(made_images(3, 10), FIRST)
    before = state(learner)
    recwarn.clear()
    report = learner.learn_task(made_images(1, 10, seed=3), ["owl"])
    after = state(learner)
    still = all(torch.equal(after[name], before[name]) for name in before if ".lora_" in name)
    about = [warning for warning in recwarn if "'owl' is its task's only class" in str(warning.message)]
    assert all(warning.filename == __file__ for warning in about)
    said = bool(about)
    assert still == said == (classes == "new") and (report.steps == 0) == still and (report.anchors == 0) == still
    assert len(learner.prototypes) == 4 and torch.equal(learner.prototypes[:3], before["prototypes"]) == still


def test_a_learner_that_was_made_without_an_adapter_cannot_begin_to_train():
    learner = SeGPCL(tiny_backbone(), small_config(training__epochs=0))
    learner.learn_task(made_images(3, 10), FIRST)
    learner.config.training.epochs = 5
    with pytest.raises(
        ValueError, match="training.epochs must stay 0, as it was when this learner was made without an adapter; got 5"
    ):
        learner.learn_task(made_images(2, 10, seed=3), SECOND)
