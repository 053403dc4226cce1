"""Learners on a tiny CLIP after two tasks, and comparisons of their states."""

from made import made_images, small_config, tiny_backbone

from segp_ext.method.learner import SeGPCL

FIRST, SECOND = ["red", "green", "blue"], ["cat", "dog"]


def learnt(**changes):
    """A learner after two tasks, and their reports; `changes` are settings as `made.small_config` takes them."""
    learner = SeGPCL(tiny_backbone(), small_config(**changes))
    reports = [learner.learn_task(made_images(3, 10), FIRST), learner.learn_task(made_images(2, 10, seed=3), SECOND)]
    return learner, reports


def state(learner):
    """Copies of the tensors that a learner has learnt, by name."""
    tensors = {name: t.clone() for name, t in learner.backbone.adapter_state().items()}
    return {**tensors, "prototypes": learner.prototypes.clone()}


def same(a, b):
    """Whether two states are equal to the bit."""
    return a.keys() == b.keys() and all((a[name] == b[name]).all() for name in a)


class Labelled:
    """A dataset of one image again and again, with given labels."""

    def __init__(self, labels):
        self.labels = labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return made_images(1, 1)[0][0], self.labels[index]
