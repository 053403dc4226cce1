"""Several threads at one learner: who waits, and who is refused."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from made import at_once, made_images, small_config, tiny_backbone
from method.learners import FIRST, SECOND, learnt, same, state

import segp_ext
from segp_ext.clip.backbone import Backbone
from segp_ext.method.learner import SeGPCL


@pytest.mark.parametrize("method", ["segp", "rda"])
def test_the_first_predictions_may_come_from_several_threads(method, monkeypatch):
    """All that they need is made by the first of them, while the others wait."""
    from peft.tuners.lora import Linear

    merge = Linear.merge
    # While one thread sleeps, the others get their turn.
    monkeypatch.setattr(Linear, "merge", lambda self, *given: time.sleep(2e-3) or merge(self, *given))
    learner = learnt(method=method)[0]
    for parameter in learner.backbone.trained_parameters():
        parameter.data.normal_()  # so that a model that is merged in part answers otherwise
    images = [made_images(3, 4)[i][0] for i in range(12)]
    expected = learner.copy().predict(images)
    for _ in range(5):
        assert at_once(learner.copy(), images) == [expected] * 4


@pytest.mark.parametrize("pretrained", ["own", None])
def test_learners_made_in_several_threads_are_those_of_one(pretrained, monkeypatch):
    """Random weights and the adapter's start are drawn from the whole process's generators, one learner after the other."""
    drawn = torch.nn.init.orthogonal_
    # While one thread sleeps, the others get their turn.
    monkeypatch.setattr(torch.nn.init, "orthogonal_", lambda *given: time.sleep(1e-3) or drawn(*given))

    def made(_):
        learner = SeGPCL(segp_ext.load_clip("glyph", pretrained), small_config())
        return learner.backbone.weights_hash(), learner.backbone.adapter_state()

    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(made, range(4)))
    weights, adapter = made(0)
    assert all(one == weights and same(adapter, other) for one, other in found)


def test_a_copy_predicts_from_several_threads_while_the_learner_learns():
    learner = SeGPCL(tiny_backbone(), small_config(training__epochs=4))
    learner.learn_task(made_images(3, 10), FIRST)
    images = [made_images(3, 4)[i][0] for i in range(12)]
    before = learner.predict(images)
    twin, classifier = learner.copy(), learner.classifier()
    learning, wrong = threading.Event(), []

    def predicting():
        while not learning.is_set():
            wrong.extend(p for p in (twin.predict(images), classifier.predict(images)) if p != before)

    threads = [threading.Thread(target=predicting) for _ in range(3)]
    for thread in threads:
        thread.start()
    learner.learn_task(made_images(2, 10, seed=3), SECOND)
    learning.set()
    for thread in threads:
        thread.join()
    assert (
        not wrong and twin.predict(images) == classifier.predict(images) == before and list(twin.class_names) == FIRST
    )
    assert same(state(learner), state(learnt(training__epochs=4)[0]))
    twin.learn_task(made_images(2, 10, seed=3), SECOND)  # a copy is a learner, too
    assert same(state(twin), state(learner))


def test_what_would_disturb_learning_is_refused_meanwhile(monkeypatch):
    """From another thread, and here from within: each would merge the adapter under the training step."""
    from segp_ext.method import task as module

    learner = SeGPCL(tiny_backbone(), small_config())
    learner.learn_task(made_images(3, 4), FIRST)
    refused = []

    def fit(*arguments, **settings):
        image = torch.zeros(3, 8, 8, dtype=torch.uint8)
        for name, use in (
            ("copy", learner.copy), ("predict", lambda: learner.predict(image)), ("save", lambda: learner.save("nowhere")),
            ("learn", lambda: learner.learn_task(made_images(2, 4), ["x", "y"])),
        ):  # fmt: skip
            with pytest.raises(RuntimeError, match="is learning a task"):
                use()
            refused.append(name)
        return {}

    monkeypatch.setattr(module, "fit", fit)
    learner.learn_task(made_images(2, 4), SECOND)
    assert refused == ["copy", "predict", "save", "learn"]
    assert list(learner.copy().class_names) == FIRST + SECOND


@pytest.mark.parametrize("change", [lambda x: x.to("cpu"), lambda x: x.restore(*saved_state(x))], ids=["to", "restore"])
def test_who_asks_during_a_short_change_waits_for_it(change, monkeypatch):
    learner, _ = learnt()
    images = [image for image, _ in made_images(3, 4)]
    expected, begun, go = learner.predict(images), threading.Event(), threading.Event()

    def slowly(done):
        def first(*given):
            if threading.current_thread().name == "changing":
                begun.set()
                go.wait()
            return done(*given)

        return first

    for name in ("copy", "load_adapter_state"):
        monkeypatch.setattr(Backbone, name, slowly(getattr(Backbone, name)))
    answers = []
    changing = threading.Thread(target=change, args=[learner], name="changing")
    asking = threading.Thread(target=lambda: answers.append(learner.predict(images)))
    changing.start()
    begun.wait()
    asking.start()
    asking.join(1)  # who does not wait has an answer or an error by now
    waited = asking.is_alive()
    go.set()
    for thread in (changing, asking):
        thread.join()
    assert waited and answers == [expected]


def saved_state(learner):
    return learner.records, learner.task_sizes, {**learner.tensors(), **learner.backbone.adapter_state()}
