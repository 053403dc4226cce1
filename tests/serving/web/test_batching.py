"""Batches: what arrives together passes together, and each image gets its own answer."""

from __future__ import annotations

import threading
import time
from concurrent.futures import CancelledError
from types import SimpleNamespace

import pytest
import torch

from segp_ext.method.answers import Answer
from segp_ext.serving.web.batching import Batcher, Question


class Recorder:
    """A classifier whose scores are an image's first pixel, and which notes what it gets."""

    def __init__(self):
        self.batches, self.goes_on, self.inside = [], threading.Event(), threading.Semaphore(0)
        self.goes_on.set()
        self.backbone = SimpleNamespace(to_unit=lambda pixels: pixels / 255)

    def answer(self, pixels, path, others, unknown_rate):
        first = (pixels[:, 0, 0, 0] * 255).round()
        self.batches.append(sorted(int(value) for value in first))
        self.inside.release()
        assert self.goes_on.wait(60)
        if 13 in self.batches[-1]:
            raise ValueError("13 came")
        unknown = None if unknown_rate is None else first > 100 * unknown_rate
        return Answer(first.unsqueeze(1), unknown, None)


def image(value):
    return torch.full((3, 2, 2), value, dtype=torch.uint8)


@pytest.fixture
def batcher():
    made = []

    def make(*given):
        made.append(Batcher(*given))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_images_that_wait_pass_together_and_each_gets_its_own_answer(batcher):
    classifier, sizes = Recorder(), []
    batches = batcher(8, 0.0, 1, sizes.append)
    classifier.goes_on.clear()
    question = Question(classifier)
    first = batches.submit(question, image(0))
    assert classifier.inside.acquire(timeout=60)  # the model computes: the others wait
    others = [batches.submit(question, image(value)) for value in range(1, 12)]
    classifier.goes_on.set()
    found = [int(each.result(60).probabilities) for each in (first, *others)]
    assert found == list(range(12)) and all(each.result().unknown is None for each in others)
    assert classifier.batches == [[0], list(range(1, 9)), [9, 10, 11]] and sizes == [1, 8, 3]


def test_an_image_waits_for_others_no_longer_than_it_may(batcher):
    classifier = Recorder()
    batches = batcher(3, 0.5)
    begin = time.monotonic()
    three = [batches.submit(Question(classifier), image(value)) for value in range(3)]
    [each.result(60) for each in three]
    assert time.monotonic() - begin < 0.4 and classifier.batches == [[0, 1, 2]]
    begin = time.monotonic()
    batches.submit(Question(classifier), image(0)).result(60)
    assert 0.4 < time.monotonic() - begin < 5


def test_a_size_of_one_is_no_batching(batcher):
    classifier = Recorder()
    batches = batcher(1, 0.5)
    found = [batches.submit(Question(classifier), image(value)) for value in range(4)]
    [each.result(60) for each in found]
    assert classifier.batches == [[0], [1], [2], [3]]


def test_other_questions_and_other_learners_pass_apart(batcher):
    one, two = Recorder(), Recorder()
    batches = batcher(8, 0.2)
    asked = [
        batches.submit(Question(one), image(1)),
        batches.submit(Question(two), image(2)),
        batches.submit(Question(one, "text"), image(3)),
        batches.submit(Question(one, None, 0.1), image(4)),
        batches.submit(Question(one, None, 0.1), image(40)),
        batches.submit(Question(one), image(5)),
    ]
    found = [each.result(60) for each in asked]
    assert [int(each.probabilities) for each in found] == [1, 2, 3, 4, 40, 5]
    assert [each.unknown for each in found] == [None, None, None, False, True, None]
    assert sorted(one.batches) == [[1, 5], [3], [4, 40]] and two.batches == [[2]]


def test_an_error_is_told_to_its_own_batch_and_the_thread_goes_on(batcher):
    classifier = Recorder()
    batches = batcher(1, 0.0)
    bad, good = batches.submit(Question(classifier), image(13)), batches.submit(Question(classifier), image(1))
    with pytest.raises(ValueError, match="13 came"):
        bad.result(60)
    assert int(good.result(60).probabilities) == 1


def test_images_of_one_batch_may_differ_in_size_no_more_than_the_model_allows(batcher):
    """What cannot be stacked is an error of those who asked, not the end of the thread."""
    classifier = Recorder()
    batches = batcher(2, 0.5)
    found = [
        batches.submit(Question(classifier), pixels) for pixels in (image(1), torch.zeros(3, 4, 4, dtype=torch.uint8))
    ]
    for each in found:
        with pytest.raises(RuntimeError):
            each.result(60)
    assert int(batches.submit(Question(classifier), image(2)).result(60).probabilities) == 2


def test_who_gave_up_is_left_out(batcher):
    classifier = Recorder()
    batches = batcher(4, 0.0)
    classifier.goes_on.clear()
    first = batches.submit(Question(classifier), image(0))
    assert classifier.inside.acquire(timeout=60)
    gone, stays = batches.submit(Question(classifier), image(1)), batches.submit(Question(classifier), image(2))
    assert gone.cancel()
    classifier.goes_on.set()
    assert int(stays.result(60).probabilities) == 2 and int(first.result(60).probabilities) == 0
    assert classifier.batches == [[0], [2]]
    with pytest.raises(CancelledError):
        gone.result(60)


def test_threads_are_in_the_model_at_the_same_time(batcher):
    classifier = Recorder()
    batches = batcher(1, 0.0, 3)
    classifier.goes_on.clear()
    found = [batches.submit(Question(classifier), image(value)) for value in range(3)]
    for _ in range(3):
        assert classifier.inside.acquire(timeout=60)  # all three are inside before one goes on
    classifier.goes_on.set()
    assert sorted(int(each.result(60).probabilities) for each in found) == [0, 1, 2]


def test_closing_answers_what_was_submitted():
    classifier = Recorder()
    batches = Batcher(2, 0.0, 2)
    found = [batches.submit(Question(classifier), image(value)) for value in range(7)]
    batches.close()
    assert [int(each.result(0).probabilities) for each in found] == list(range(7))
