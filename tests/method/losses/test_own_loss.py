"""A loss of one's own: what it gets at every step, how it enters the training loss, and what is refused."""

import pytest
import torch
import torch.nn.functional as F
from made import images_of, made_images, pixels_of, small_config, tiny_backbone

from segp_ext.method.learner import SeGPCL
from segp_ext.method.loss_record import LossRecord
from segp_ext.method.losses import Loss
from segp_ext.method.own_parts import OwnPartError

FIRST, SECOND = ["red", "green", "blue"], ["cat", "dog"]


def learn(kind, **changes):
    """A learner after two tasks with the loss `kind` of this module, and its reports."""
    extra = {} if kind is None else {"extra_loss__kind": f"{__name__}:{kind.__name__}"}
    learner = SeGPCL(tiny_backbone(), small_config(**extra, **changes))
    first = learner.learn_task(made_images(3, 10), FIRST)
    return learner, (first, learner.learn_task(made_images(2, 10, seed=3), SECOND))


def learnt(learner):
    return {**learner.backbone.adapter_state(), **learner.tensors()}


class Ones(Loss):
    """One of every part."""

    def of_images(self, images, text):
        return 0 * images.embedding.sum() + 1

    def of_anchors(self, anchors, text):
        return 0 * anchors.feature.sum() + 1

    def of_text(self, text):
        return 0 * text.sum() + 1


@pytest.mark.parametrize("parts", [1, 3, 50])
def test_every_part_counts_once_a_step_times_the_weight(parts):
    _, (first, second) = learn(Ones, extra_loss__weight=2.5, training__accumulate=parts)
    assert first.losses["extra"] == pytest.approx(2 * 2.5)  # of images and text
    assert second.losses["extra"] == pytest.approx(3 * 2.5)
    assert set(second.losses) == {"classification", "acgd", "tsgr", "extra"}


def test_a_weight_of_zero_is_no_loss():
    without, with_zero = learn(None)[0], learn(Ones, extra_loss__weight=0.0)[0]
    assert all(torch.equal(tensor, learnt(with_zero)[name]) for name, tensor in learnt(without).items())


class Mixed(Loss):
    """Reads embeddings, features and the teacher of images and anchors, and the texts; no gradient is zero at the teacher itself."""

    teacher_of_images = True

    def of_images(self, images, text):
        near = 1 - F.cosine_similarity(images.feature, images.teacher_feature.roll(1, 1))
        return near.mean() + F.cross_entropy(self.logits(images.embedding, text), images.target)

    def of_anchors(self, anchors, text):
        kept = (anchors.embedding - 2 * anchors.teacher_embedding).square().sum(dim=1)
        return kept.mean() + F.cross_entropy(self.logits(anchors.embedding, text), anchors.target)

    def of_text(self, text):
        return (text - 2 * self.task.reference).square().mean()


@pytest.mark.parametrize("setting", [{"accumulate": 3}, {"accumulate": 50}, {"prompts_per_pass": 2}])
def test_a_step_in_parts_is_the_same_step(setting):
    changes = {"training__optimizer": "sgd", "training__learning_rate": 0.01, "anchors__kind": "seeds"}
    whole = learnt(learn(Mixed, **changes)[0])
    parts = learnt(learn(Mixed, **changes, **{f"training__{name}": value for name, value in setting.items()})[0])
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, rtol=0, atol=2e-5)
    without = learnt(learn(None, **changes)[0])
    assert max((whole[n] - without[n]).abs().max().item() for n in whole) > 1e-3


@pytest.mark.parametrize("distilled", [True, False])
def test_gradients_are_those_of_one_backward_pass(distilled, monkeypatch):
    """One step over all images and anchors of the second task, and its gradients by torch alone."""
    changes = {
        "anchors__kind": "seeds", "distillation__weight": 0.0, "text_geometry__weight": 0.0, "training__epochs": 1,
        "training__batch_size": 64, "distillation__batch_size": 64, "extra_loss__kind": f"{__name__}:Mixed",
    }  # fmt: skip
    if not distilled:
        changes["anchors__kind"] = "none"
    learner = SeGPCL(tiny_backbone(precision="fp64"), small_config(**changes))
    learner.learn_task(made_images(3, 10), FIRST)
    backbone, teacher = learner.backbone, learner.copy().backbone
    pixels = backbone.to_unit(pixels_of(images_of(made_images(2, 10, seed=3), backbone), range(20)))
    target = torch.arange(5).repeat_interleave(10)[30:]
    found, add = [], LossRecord.add

    def noted(self, step, terms, gradients, indices):
        found.append((terms.clone(), gradients.clone()))
        add(self, step, terms, gradients, indices)

    monkeypatch.setattr(LossRecord, "add", noted)
    tokens = backbone.tokenize([f"a photo of {name}." for name in FIRST + SECOND])
    with torch.no_grad():
        before = teacher.encode_image(pixels)
        with teacher.reference():
            reference = teacher.encode_text(tokens)
        seeds = learner.config.anchors.seeds_per_class
        unit_text = F.normalize(teacher.encode_text(tokens[:3]), dim=1)
        chosen = (unit_text @ F.normalize(before[0], dim=1).T).topk(seeds, dim=1).indices.flatten()
    start = [parameter.detach().clone() for parameter in backbone.trained_parameters()]
    learner.learn_task(made_images(2, 10, seed=3), SECOND)

    for parameter, value in zip(backbone.trained_parameters(), start, strict=True):
        parameter.data.copy_(value)
    embedding, feature = backbone.encode_image(pixels)
    text, scale = backbone.encode_text(tokens), backbone.logit_scale

    def logits(rows, classes):
        return scale * F.normalize(rows, dim=1) @ F.normalize(classes, dim=1).T

    extra = (1 - F.cosine_similarity(feature, before[1].roll(1, 1))).mean() + F.cross_entropy(
        logits(embedding, text), target
    )
    if distilled:
        rows = embedding[chosen]
        of_class = torch.arange(3).repeat_interleave(seeds)
        extra = extra + (rows - 2 * before[0][chosen]).square().sum(dim=1).mean()
        extra = extra + F.cross_entropy(logits(rows, text), of_class)
    extra = extra + (text - 2 * reference).square().mean()
    loss = F.cross_entropy(logits(embedding, text[3:]), target - 3) + extra
    expected = torch.autograd.grad(loss, backbone.trained_parameters())
    (terms, gradients), *others = found
    assert not others
    torch.testing.assert_close(terms[-1], extra.detach(), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(gradients, torch.cat([g.flatten() for g in expected]), rtol=1e-7, atol=1e-9)


class Looking(Loss):
    """Notes what it gets."""

    seen: list = []  # noqa: RUF012

    def of_images(self, images, text):
        with pytest.raises(ValueError, match="sets teacher_of_images = True"):
            _ = images.teacher_feature
        self.seen.append(("images", self.task.number, images.target.tolist(), len(text)))

    def of_anchors(self, anchors, text):
        if self.task.anchor_classes is None:
            with pytest.raises(ValueError, match="these anchors belong to no old class"):
                _ = anchors.target
        else:
            self.seen.append(("anchors", self.task.number, anchors.target.tolist(), len(text)))
        assert anchors.teacher_embedding.shape == anchors.embedding.shape
        assert self.task.teacher_text.shape == (3, 16) and self.task.reference.shape == (5, 16)


@pytest.mark.parametrize("kind", ["dpgd", "new-images"])
@pytest.mark.parametrize("method", ["segp", "lora"])
def test_a_loss_sees_the_classes_of_images_and_anchors(method, kind):
    Looking.seen.clear()
    changes = (
        {} if method == "lora" else {"anchors__kind": kind, "prototypes__transfer": "none", "distillation__weight": 0.0}
    )
    learn(Looking, method=method, training__epochs=1, training__batch_size=64, distillation__batch_size=64, **changes)
    images = [(number, sorted(target), texts) for what, number, target, texts in Looking.seen if what == "images"]
    assert images == [(1, [0] * 10 + [1] * 10 + [2] * 10, 3), (2, [3] * 10 + [4] * 10, 5)]
    anchors = [(number, sorted(target), texts) for what, number, target, texts in Looking.seen if what == "anchors"]
    assert anchors == ([(2, [0] * 3 + [1] * 3 + [2] * 3, 5)] if (method, kind) == ("segp", "dpgd") else [])


class Teacher(Loss):
    """The teacher's outputs for the images themselves, which are the anchors of LwF, too."""

    teacher_of_images = True

    def of_images(self, images, text):
        return (images.embedding - images.teacher_embedding).square().mean()


def test_the_teacher_encodes_images_once_where_they_are_the_anchors(monkeypatch):
    from segp_ext.method import task as module

    calls, encode = [], module.encoded_by_teacher
    monkeypatch.setattr(module, "encoded_by_teacher", lambda *given: (calls.append(1), encode(*given))[1])
    assert learn(Teacher, method="lwf")[1][1].losses["extra"] > 0
    assert len(calls) == 1  # of the first task, which has no anchors
    assert learn(Teacher, method="lora")[1][1].losses["extra"] > 0
    assert len(calls) == 3


class PerSample(Loss):
    def of_images(self, images, text):
        return images.embedding.sum(dim=1)


class Refusing(Ones):
    @classmethod
    def check(cls, config):
        if config.lora.rank < 8:
            raise ValueError(f"lora.rank must be 8 or more for this loss; got {config.lora.rank}")


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match=r"loss extra must be a scalar, such as a mean; got a tensor \[8\]"):
        learn(PerSample)
    with pytest.raises(ValueError, match="lora.rank must be 8 or more for this loss; got 4"):
        learn(Refusing)


class Misspelt(Loss):
    def of_image(self, images, text):
        return images.embedding.sum()


class NoTensor(Loss):
    def of_text(self, text):
        return 1.0


class Dividing(Loss):
    def of_images(self, images, text):
        return 1 / 0


def test_a_loss_without_a_hook_is_refused_with_the_hooks():
    needs = "Misspelt must override one or more of of_images, of_anchors, of_text; got of_image$"
    with pytest.raises(ValueError, match=f"extra_loss.kind: .*{needs}"):
        learn(Misspelt)


def test_a_loss_that_is_no_tensor_is_named():
    with pytest.raises(ValueError, match="loss extra must be a scalar tensor; got float"):
        learn(NoTensor)


def test_a_loss_that_fails_is_named_with_its_own_error():
    said = f"^extra_loss.kind {__name__}:Dividing: ZeroDivisionError: division by zero$"
    with pytest.raises(OwnPartError, match=said) as failed:
        learn(Dividing)
    assert isinstance(failed.value.__cause__, ZeroDivisionError)


class Broken(Loss):
    def of_text(self, text):
        return text.sum() * (float("nan") if self.task.number == 2 else 1.0)


def test_a_loss_that_is_not_finite_is_named():
    with pytest.raises(FloatingPointError, match="task 2, epoch 1, step 1: .*extra nan"):
        learn(Broken)
