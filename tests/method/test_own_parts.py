"""Parts of the user's own that fail or return what does not fit are named with their setting and class."""

import pytest
import torch
from made import made_images, small_config, tiny_backbone

from segp_ext.method.heads import Head
from segp_ext.method.learner import SeGPCL
from segp_ext.method.own_parts import OwnPartError, naming
from segp_ext.method.sources import Seeds, Source


def learn(**changes):
    learner = SeGPCL(tiny_backbone(), small_config(**changes))
    learner.learn_task(made_images(3, 10), ["red", "green", "blue"])
    learner.learn_task(made_images(2, 10, seed=3), ["cat", "dog"])
    return learner


class Moving(Source):
    """Returns what `returned` makes of the seeds."""

    returned = staticmethod(lambda seed: seed)

    def move(self, teacher, seed, target, drawn):
        return self.returned(seed)


WRONG_ANCHORS = [
    (lambda seed: seed[:-1], r"float32 tensor \[9, 3, 8, 8\] on cpu; got float32 \[8, 3, 8, 8\] on cpu"),
    (lambda seed: seed[:, :1], r"float32 tensor \[9, 3, 8, 8\] on cpu; got float32 \[9, 1, 8, 8\] on cpu"),
    (lambda seed: seed.double(), r"float32 tensor .*; got float64 "),
    (lambda seed: seed.to("meta"), r"float32 tensor .* on cpu; got float32 .* on meta"),
    (lambda seed: None, r"float32 tensor .*; got NoneType"),
    (lambda seed: seed / 0, "finite values; got NaN or infinity"),
]


@pytest.mark.parametrize(("returned", "said"), WRONG_ANCHORS)
def test_anchors_that_do_not_fit_are_refused(returned, said, monkeypatch):
    monkeypatch.setattr(Moving, "returned", staticmethod(returned))
    with pytest.raises(OwnPartError, match=f"^anchors.kind {__name__}:Moving: move must return (a )?{said}"):
        learn(anchors__kind=f"{__name__}:Moving")


def test_every_anchor_must_be_written(monkeypatch):
    monkeypatch.setattr(Seeds, "move", lambda self, teacher, seed, target, drawn: seed[:-1])
    with pytest.raises(ValueError, match=r"anchors.kind .*:Seeds must make \d+ anchors; got \d+"):
        learn(anchors__kind="seeds")


class Choosing(Source):
    """Returns what `chosen` says as seeds."""

    chosen = None

    def seeds(self, teacher, among):
        return self.chosen


@pytest.mark.parametrize(
    ("chosen", "got"),
    [
        (None, "NoneType"),
        (torch.zeros(2, 4, dtype=torch.int64), r"int64 \[2, 4\]"),
        (torch.zeros(3, 4), r"float32 \[3, 4\]"),
        (torch.zeros(3, 0, dtype=torch.int64), r"int64 \[3, 0\]"),
        (torch.full((3, 4), 20), "numbers from 20 to 20"),
        (torch.full((3, 4), -1), "numbers from -1 to -1"),
    ],
)
def test_seeds_that_do_not_fit_are_refused(chosen, got, monkeypatch):
    monkeypatch.setattr(Choosing, "chosen", chosen)
    needs = r"seeds must return an int64 tensor \[3, K\] of image numbers below 20, K at least 1"
    with pytest.raises(OwnPartError, match=f"^anchors.kind {__name__}:Choosing: {needs}; got {got}$"):
        learn(anchors__kind=f"{__name__}:Choosing")


class Scoring(Head):
    """Returns what `returned` makes of the cosines."""

    returned = staticmethod(lambda scores: scores)

    def scores(self, feature, prototypes, logit_scale):
        return self.returned(super().scores(feature, prototypes, logit_scale))


@pytest.mark.parametrize(
    ("returned", "got"),
    [
        (lambda scores: scores[:, 1:], r"float32 \[2, 4\] on cpu"),
        (lambda scores: scores.T, r"float32 \[5, 2\] on cpu"),
        (lambda scores: scores.argmax(dim=1, keepdim=True), r"int64 \[2, 1\] on cpu"),
        (lambda scores: scores.tolist(), "list"),
    ],
)
@pytest.mark.parametrize("path", ["visual", "dual"])
def test_scores_that_do_not_fit_are_refused(path, returned, got, monkeypatch):
    learner = learn(prototypes__score=f"{__name__}:Scoring")
    monkeypatch.setattr(Scoring, "returned", staticmethod(returned))
    pixels = torch.rand(2, 3, learner.backbone.image_size, learner.backbone.image_size)
    needs = r"must return a floating-point tensor \[2, 5\] on cpu"
    with pytest.raises(OwnPartError, match=f"^prototypes.score {__name__}:Scoring: scores {needs}; got {got}$"):
        learner.logits(pixels, path)
    assert learner.logits(pixels, "text").shape == (2, 5)


class Failing(Head):
    def finish(self, processes):
        raise KeyError("lost")


def test_what_a_part_raises_is_chained():
    with pytest.raises(OwnPartError, match=f"^prototypes.score {__name__}:Failing: KeyError: 'lost'$") as failed:
        learn(prototypes__score=f"{__name__}:Failing")
    assert isinstance(failed.value.__cause__, KeyError)


def test_parts_of_this_package_and_full_memory_raise_as_they_are():
    with pytest.raises(ZeroDivisionError), naming("prototypes.score", Head):
        raise ZeroDivisionError
    with pytest.raises(torch.OutOfMemoryError), naming("prototypes.score", Failing):
        raise torch.OutOfMemoryError
    with pytest.raises(OwnPartError, match="Failing: ValueError$"), naming("prototypes.score", Failing):
        raise ValueError
