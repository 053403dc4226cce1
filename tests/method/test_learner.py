"""The learner on a tiny CLIP: every method learns, remembers what it should, and refuses bad input without harm."""

import asyncio
import copy
import math
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from made import at_once, encoded, images_of, made_images, pixels_of, small_config, tiny_backbone
from PIL import Image

import segp_ext
from segp_ext.clip.backbone import Backbone
from segp_ext.config import LoadingConfig, MethodConfig, TrainingConfig, with_method
from segp_ext.config.methods import METHODS
from segp_ext.data.images import Images
from segp_ext.method.anchors import Anchors
from segp_ext.method.checks import prompts
from segp_ext.method.learner import SeGPCL
from segp_ext.method.loss_record import LossRecord
from segp_ext.run.evaluation import EvaluationSet

FIRST, SECOND = ["red", "green", "blue"], ["cat", "dog"]


def learnt(**changes):
    learner = SeGPCL(tiny_backbone(), small_config(**changes))
    reports = [learner.learn_task(made_images(3, 10), FIRST), learner.learn_task(made_images(2, 10, seed=3), SECOND)]
    return learner, reports


def state(learner):
    tensors = {name: t.clone() for name, t in learner.backbone.adapter_state().items()}
    return {**tensors, "prototypes": learner.prototypes.clone()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


@pytest.mark.parametrize("method", [m for m in METHODS if m not in ("zscl", "joint", "linear-probe")])  # see test_peers
def test_every_method_learns_two_tasks(method):
    learner, (first, second) = learnt(method=method)
    assert list(learner.class_names) == FIRST + SECOND and learner.task_sizes == [3, 2]
    assert learner.prototypes.shape == (5, learner.backbone.raw_dim) and learner.prototypes.isfinite().all()
    assert first.anchors == 0
    frozen = METHODS[method].get("training.epochs") == 0
    anchors = 0 if frozen else {"lora": 0, "lwf": 20, "sdc": 20, "adc": 3 * 20}.get(method, 3 * 3)
    distils = anchors and METHODS[method].get("distillation.weight") != 0
    assert second.anchors == anchors and (second.steps == 0) == frozen
    assert (
        set(second.losses) == set()
        if frozen
        else {"classification"} | ({"acgd"} if distils else set()) <= set(second.losses)
    )
    assert ("tsgr" in second.losses) == (not frozen and METHODS[method].get("text_geometry.weight") != 0)
    assert (learner.untransferred is not None) == (anchors > 0)


def test_training_lowers_the_loss_and_learns_the_task():
    learner, _ = learnt(method="lora", training__epochs=30, training__classes="seen")
    images = images_of(made_images(2, 10, seed=3), learner.backbone)
    for path in ("text", "visual", "dual"):
        predicted = learner.scores(*encoded(learner, images), path).argmax(dim=1) - 3
        assert (predicted == images.labels).float().mean() > 0.9, path


def test_same_seed_same_bits_and_another_seed_differs():
    first, again, other = (state(learnt(seed=seed)[0]) for seed in (0, 0, 1))
    assert same(first, again) and not same(first, other)


def test_zero_shot_is_the_pretrained_model():
    learner, _ = learnt(method="zero-shot")
    backbone = tiny_backbone()
    images = images_of(made_images(3, 4), backbone)
    with torch.no_grad():
        embedding, feature = backbone.encode_image(backbone.to_unit(pixels_of(images, range(12))))
        text = backbone.encode_text(backbone.tokenize([f"a photo of {n}." for n in FIRST + SECOND]))
        expected = backbone.logit_scale * F.normalize(embedding, dim=-1) @ F.normalize(text, dim=-1).T
    torch.testing.assert_close(learner.scores(embedding, feature), expected)


@pytest.mark.parametrize("features", ["unit", "raw"])
def test_frozen_prototypes_are_class_means(features):
    learner, _ = learnt(method="frozen-prototypes", prototypes__features=features)
    data = made_images(3, 10)
    images = images_of(data, learner.backbone)
    _, feature = encoded(learner, images)
    taken = F.normalize(feature, dim=1) if features == "unit" else feature
    expected = torch.stack([taken[images.labels == c].mean(dim=0) for c in range(3)])
    torch.testing.assert_close(learner.prototypes[:3], F.normalize(expected, dim=1) if features == "unit" else expected)


def test_dual_path_is_text_plus_beta_visual():
    learner, _ = learnt(inference__beta=0.7)
    embedding, feature = encoded(learner, images_of(made_images(3, 4), learner.backbone))
    text, visual, dual = (learner.scores(embedding, feature, path) for path in ("text", "visual", "dual"))
    torch.testing.assert_close(dual, text + 0.7 * visual)
    expected = learner.backbone.logit_scale * F.normalize(feature, dim=-1) @ F.normalize(learner.prototypes, dim=-1).T
    torch.testing.assert_close(visual, expected)


def test_strong_distillation_keeps_the_teachers_scores_on_anchors():
    moved = []
    for weight in (0.0, 500.0):
        learner, _ = learnt(distillation__weight=weight, text_geometry__weight=0.0, training__epochs=6)
        embedding, feature = encoded(learner, images_of(made_images(2, 10, seed=3), learner.backbone))
        only_first = SeGPCL(tiny_backbone(), small_config(training__epochs=6, text_geometry__weight=0.0))
        only_first.learn_task(made_images(3, 10), FIRST)
        reference, _ = encoded(only_first, images_of(made_images(2, 10, seed=3), only_first.backbone))
        old = [
            m.scores(v, feature, "text")[:, :3].softmax(dim=1)
            for m, v in ((learner, embedding), (only_first, reference))
        ]
        moved.append((old[0] - old[1]).abs().mean().item())
    assert moved[1] < 0.5 * moved[0]


def test_the_weight_of_acgd_is_stated_at_a_scale_of_100():
    """Halving the logit scale doubles the weight, so the reported term over the raw loss changes by the same factor."""
    from segp_ext.method.losses import distillation as module

    terms = {}
    for scale in (100.0, 50.0):
        learner = SeGPCL(tiny_backbone(), small_config(training__learning_rate=1e-9))
        learner.backbone.clip.logit_scale.data.fill_(torch.tensor(scale).log().item())
        learner.learn_task(made_images(3, 10), FIRST)
        raw = []
        original = module.ops.geometry_distill
        module.ops.geometry_distill = lambda *a, _raw=raw, _f=original, **k: (
            _raw.append(torch.ones(())) or _f(*a, **k) * 0 + 1
        )
        try:
            terms[scale] = learner.learn_task(made_images(2, 10, seed=3), SECOND).losses["acgd"]
        finally:
            module.ops.geometry_distill = original
        assert raw
    assert terms[100.0] == pytest.approx(5) and terms[50.0] == pytest.approx(10)


def test_new_classes_only_leaves_old_classes_out_of_the_cross_entropy():
    seen, new = (learnt(method="lora", training__classes=c, training__epochs=6)[0] for c in ("seen", "new"))
    images = images_of(made_images(3, 10), seen.backbone)
    old = [float((m.scores(*encoded(m, images), "text").argmax(1) < 3).float().mean()) for m in (seen, new)]
    assert old[0] < old[1]  # old images are pushed out of old classes only where those stand in the denominator


def test_predicting_between_tasks_changes_nothing():
    """Prediction merges the adapter into the weights; what is learnt, saved and hashed afterwards must not show it, by no bit."""
    plain, _ = learnt()
    learner = SeGPCL(tiny_backbone(), small_config())
    learner.learn_task(made_images(3, 10), FIRST)
    image = made_images(1, 1)[0][0]
    first = learner.predict(image)
    assert learner.backbone.weights_hash() == tiny_backbone().weights_hash()
    learner.predict(image)
    learner.learn_task(made_images(2, 10, seed=3), SECOND)
    assert same(state(learner), state(plain))
    assert learner.predict(image) == plain.predict(image) != first


def test_predict_takes_images_in_every_form(tmp_path):
    learner, _ = learnt(method="lora", training__epochs=30, training__classes="seen")
    data = made_images(2, 3, seed=3)
    array = data[0][0]
    from PIL import Image

    pil = Image.fromarray(array.transpose(1, 2, 0), "RGB")
    pil.save(tmp_path / "image.png")
    forms = [array, torch.from_numpy(array), pil, tmp_path / "image.png", str(tmp_path / "image.png")]
    results = [learner.predict(form, topk=2) for form in forms] + [learner.predict([pil], topk=2)]
    for result in results:
        assert len(result) == 1 and len(result[0]) == 2
        assert result[0][0].name == results[0][0][0].name == "cat"
        assert result[0][0].score == pytest.approx(results[0][0][0].score, abs=1e-5)
        assert 1 >= result[0][0].score >= result[0][1].score >= 0
    batch = torch.stack([torch.from_numpy(data[i][0]) for i in range(6)])
    assert [r[0].name for r in learner.predict(batch)] == ["cat"] * 3 + ["dog"] * 3
    assert len(learner.predict(pil, topk=50)[0]) == len(learner.predict(pil, topk=None)[0]) == 5
    assert learner.predict(array.transpose(1, 2, 0)) == learner.predict(array / 255) == learner.predict(pil)
    assert learner.predict((tmp_path / "image.png").read_bytes()) == learner.predict(array)
    assert learner.predict([]) == []
    assert learner.predict(pil, topk=np.int64(2)) == learner.predict(pil, topk=2)
    assert learner.predict(np.array([str(tmp_path / "image.png")] * 2)) == learner.predict([pil] * 2)
    unit = learner.backbone.to_unit(batch)
    torch.testing.assert_close(learner.logits(unit.double()), learner.logits(unit))


def test_predict_names_an_image_whose_scores_are_not_finite(monkeypatch):
    learner, _ = learnt()
    encode = learner.backbone.encode_image

    def broken(pixels):
        embedding, feature = encode(pixels)
        return embedding.index_fill(0, torch.tensor([2]), torch.inf), feature

    monkeypatch.setattr(learner.backbone, "encode_image", broken)
    images = [image for image, _ in made_images(2, 2)]
    with pytest.raises(FloatingPointError, match="the scores of image 2 are not finite"):
        learner.predict(images)
    assert len(learner.predict(images, path="visual")) == 4


def test_predict_refuses_what_it_cannot_use():
    learner, _ = learnt(training__epochs=0)
    image = made_images(1, 2)[0][0]
    with pytest.raises(ValueError, match="topk must be 1 or more, or None for all; got 0"):
        learner.predict(image, topk=0)
    with pytest.raises(ValueError, match="path must be one of text, visual, dual; got 'both'"):
        learner.predict(image, path="both")
    with pytest.raises(ValueError, match="image 0 must have floating-point pixels.*Drop the normalisation"):
        learner.predict(torch.full((3, 8, 8), -1.0))
    with pytest.raises(
        ValueError, match="^image 1: cannot read the given data as an image: cannot identify image file$"
    ):
        learner.predict([image, b"xx"])
    with pytest.raises(ValueError, match=r"image 1 must be \[C, H, W\] or \[H, W, C\].*; got \[8, 3, 8\]"):
        learner.predict([image, image.transpose(1, 0, 2)])
    array = np.zeros((1, 3, 8, 8))
    for wrong, got in (
        (torch.zeros(1, 3, 9, 8), r"torch.float32 \[1, 3, 9, 8\]"),
        (array, r"float64 \[1, 3, 8, 8\]"),
        (3, "int"),
    ):
        with pytest.raises(
            ValueError, match=rf"pixels must be a floating-point tensor \[B, 3, 8, 8\] in \[0, 1\].*got {got}. predict"
        ):
            learner.logits(wrong)
    for wrong, got in ((5, "int"), (None, "NoneType"), ({"a": image}, "dict")):
        with pytest.raises(TypeError, match=f"images must be an image, its path, or a list of these; got {got}"):
            learner.predict(wrong)
    with pytest.raises(
        TypeError, match="image 0 must be a dense tensor of plain numbers; got torch.float32, torch.sparse_coo"
    ):
        learner.predict([torch.zeros(3, 8, 8).to_sparse()])
    with pytest.raises(ValueError, match="cannot read .*gone.png"):
        learner.predict("gone.png")
    with pytest.raises(ValueError, match="at least one learnt task"):
        SeGPCL(tiny_backbone(), small_config()).predict(image)
    learner.prototypes = learner.prototypes[:3]
    with pytest.raises(ValueError, match=r"prototypes must be \[5, 24\], a row for each class learnt; got \[3, 24\]"):
        learner.predict(image)


def test_a_learner_is_made_of_a_backbone_and_a_config():
    with pytest.raises(TypeError, match=r"backbone must be what segp_ext.load_clip gives; got str"):
        SeGPCL("glyph")
    with pytest.raises(TypeError, match="config must be a segp_ext.MethodConfig; got dict"):
        SeGPCL(tiny_backbone(), {"method": "lwf"})


class Labelled:
    def __init__(self, labels):
        self.labels = labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return made_images(1, 1)[0][0], self.labels[index]


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        ([0, 0, 1, 1], ["cat", "red"], "class name 'red' is learnt already"),
        ([0, 0, 1, 1], ["cat", "cat"], "class name 'cat' is given twice"),
        ([0, 0, 2, 1], ["cat", "dog"], "label of image 2 must be from 0 to 1.*got 2"),
        ([0, 0, -1, 1], ["cat", "dog"], "label of image 2 .*got -1"),
        ([0, 0, 0], ["cat", "dog"], r"class 'dog' has 0 training image\(s\); at least 2"),
        ([0, 0, 1], ["cat", "dog"], r"class 'dog' has 1 training image\(s\); at least 2.*min_images_per_class"),
        ([], ["cat"], "class 'cat' has 0 training image"),
        ([0, 0], [], "at least one name"),
        ([0, 0, 1, 1], ["CAT", "cat"], "class names 'CAT' and 'cat' read the same"),
        ([0, 0], ["a name far too long for a context of ten"], "does not fit the 10 tokens"),
    ],
)
def test_a_refused_task_changes_nothing(labels, names, message):
    learner = SeGPCL(tiny_backbone(), small_config())
    learner.learn_task(made_images(3, 10), FIRST)
    before = state(learner)
    with pytest.raises(ValueError, match=message):
        learner.learn_task(Labelled(labels), names)
    assert same(before, state(learner)) and list(learner.class_names) == FIRST


def test_a_loss_that_stops_being_finite_is_named_and_undone(monkeypatch):
    learner = SeGPCL(tiny_backbone(), small_config())
    learner.learn_task(made_images(3, 10), FIRST)
    before = state(learner)
    calls = []

    def broken(*arguments):
        from segp_ext.method.losses import classification_loss

        calls.append(1)
        return classification_loss(*arguments) * (float("nan") if len(calls) == 3 else 1.0)

    monkeypatch.setattr("segp_ext.method.losses.classification.classification_loss", broken)
    with pytest.raises(FloatingPointError, match="task 2, epoch 1, step 3: classification nan"):
        learner.learn_task(made_images(2, 10, seed=3), SECOND)
    assert same(before, state(learner)) and list(learner.class_names) == FIRST
    monkeypatch.undo()
    learner.learn_task(made_images(2, 10, seed=3), SECOND)
    assert same(state(learner), state(learnt()[0]))  # as if nothing had happened


@pytest.mark.parametrize("method", ["segp", "rda"])
def test_the_first_predictions_may_come_from_several_threads(method, monkeypatch):
    """All that they need is made by the first of them, while the others wait."""
    from peft.tuners.lora import Linear

    merge = Linear.merge
    monkeypatch.setattr(
        Linear, "merge", lambda self, *given: time.sleep(2e-3) or merge(self, *given)
    )  # others get their turn
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
    monkeypatch.setattr(
        torch.nn.init, "orthogonal_", lambda *given: time.sleep(1e-3) or drawn(*given)
    )  # others get their turn

    def made(_):
        learner = SeGPCL(segp_ext.load_clip("glyph", pretrained), small_config())
        return learner.backbone.weights_hash(), learner.backbone.adapter_state()

    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(made, range(4)))
    weights, adapter = made(0)
    assert all(one == weights and same(adapter, other) for one, other in found)


def test_predictions_follow_a_step_that_is_not_the_learners():
    learner, _ = learnt()
    image = made_images(1, 1)[0][0]
    before, text = learner.predict(image), learner.text_embeddings()
    assert all(parameter.requires_grad for parameter in learner.backbone.trained_parameters())
    with torch.no_grad():
        for parameter in learner.backbone.trained_parameters():
            parameter.add_(0.1)
    assert learner.predict(image) != before and not torch.equal(learner.text_embeddings(), text)


@pytest.mark.parametrize("method", ["segp", "frozen-prototypes"])
def test_settings_that_are_changed_are_followed_and_classifiers_of_before_stay(method):
    learner, _ = learnt(method=method)
    images = [image for image, _ in made_images(3, 4)]
    classifier, before = learner.classifier(), learner.predict(images, path="dual")

    def replaced():
        learner.config = copy.deepcopy(learner.config)
        learner.config.inference.beta = 50.0

    def edited():
        learner.config.inference.beta = 0.1

    def worded():
        learner.config.template = "a drawing of one {} here."

    for change in (replaced, edited, worded):
        change()
        found = learner.predict(images, path="dual")
        assert found == copy.deepcopy(learner).predict(images, path="dual") != before
        assert learner.classifier().backbone is classifier.backbone  # the model is not merged again
        assert classifier.predict(images, path="dual") == before
        classifier, before = learner.classifier(), found
    torch.testing.assert_close(learner.text_embeddings(), learner.encode_names(learner.class_names))


def test_names_to_be_encoded_are_a_list():
    learner, _ = learnt(method="frozen-prototypes")
    with pytest.raises(TypeError, match=r"class_names must be a list of names; got the string 'cat': write \['cat'\]"):
        learner.encode_names("cat")
    with pytest.raises(TypeError, match="got a set, which has no such order"):
        learner.encode_names({"cat", "dog"})
    with pytest.raises(TypeError, match="got the string 'cat'"):
        EvaluationSet("cat", images_of(made_images(1, 2), learner.backbone))
    with pytest.raises(TypeError, match=r"texts must be a list of strings; got the string 'a cat': write \['a cat'\]"):
        learner.backbone.tokenize("a cat")
    assert len(learner.encode_names(np.array(["cat", "dog"]))) == 2


def test_what_is_asked_of_a_classifiers_backbone_leaves_its_predictions_alone():
    learner, _ = learnt()
    with torch.no_grad():
        for parameter in learner.backbone.trained_parameters():
            parameter.normal_(std=0.1)
    images = [image for image, _ in made_images(3, 4)]
    classifier, before = learner.classifier(), learner.predict(images)
    assert classifier.backbone.weights_hash() == tiny_backbone().weights_hash()  # asked first of a merged model
    with classifier.backbone.reference():
        pass
    classifier.backbone.train()
    assert not any(module.training for module in classifier.backbone.modules())
    merged = classifier.backbone._adapter.merged_layers
    assert merged and all(module.merged for module, _, _ in merged)
    assert classifier.predict(images) == before and classifier is learner.classifier()


def test_putting_the_adapter_back_counts_as_a_change():
    """A classifier that is kept follows, whatever changed the adapter."""
    learner, _ = learnt()
    versions = [parameter._version for parameter in learner.backbone.trained_parameters()]
    learner.forget()
    assert all(p._version > v for p, v in zip(learner.backbone.trained_parameters(), versions, strict=True))


@pytest.mark.parametrize("method", ["segp", "lora", "frozen-prototypes"])
def test_a_learner_is_moved_as_a_whole(method, monkeypatch):
    """To a device without memory, which is there on every machine; a classifier of before goes on."""
    learner, _ = learnt(method=method)
    images = [image for image, _ in made_images(3, 4)]
    classifier, before = learner.classifier(), learner.predict(images)
    assert learner.to("cpu") is learner and learner.predict(images) == before
    monkeypatch.setattr("segp_ext.method.state.usable_device", lambda *_: torch.device("meta"))
    assert learner.to("meta") is learner
    parts = [*learner.tensors().values(), *learner.backbone.parameters(), *learner.backbone.buffers(), learner.tokens]
    parts += [learner.backbone.projection] + ([] if learner.untransferred is None else [learner.untransferred])
    assert {part.device.type for part in parts} == {"meta"} and learner.backbone.device.type == "meta"
    assert classifier.predict(images) == before


def test_a_moved_learner_learns_on_the_same():
    learner, plain = (SeGPCL(tiny_backbone(), small_config(prototypes__score="mahalanobis")) for _ in range(2))
    for each in (learner, plain):
        each.learn_task(made_images(3, 10), FIRST)
    learner.to(torch.device("cpu")).learn_task(made_images(2, 10, seed=3), SECOND)
    plain.learn_task(made_images(2, 10, seed=3), SECOND)
    assert same(state(learner), state(plain))
    for device, message in (
        ("tpu", "device must be auto, cpu, cuda or cuda:<n>; got 'tpu'"),
        (torch.float16, "got 'torch.float16'"),
    ):
        with pytest.raises(ValueError, match=message):
            learner.to(device)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("method", ["segp", "ranpac", "rda"])
def test_a_learner_goes_to_a_gpu_and_back(method):
    learner, _ = learnt(method=method)
    images = [image for image, _ in made_images(3, 4)]
    before = learner.predict(images)
    on_gpu = learner.to(0).predict(images)
    assert learner.prototypes.is_cuda
    for expected, found in zip(before, on_gpu, strict=True):
        assert {p.name: p.score for p in found} == pytest.approx({p.name: p.score for p in expected}, abs=1e-3)
    assert learner.to("cpu").predict(images) == before


def test_a_learner_has_no_modes():
    learner, _ = learnt()
    assert learner.eval() is learner and learner.train(False) is learner
    with pytest.raises(TypeError, match="a learner has no training mode; learn_task"):
        learner.train()


def test_class_names_are_changed_by_learning_alone():
    learner, _ = learnt()
    with pytest.raises(TypeError):
        learner.class_names[0] = "crimson"
    with pytest.raises(
        AttributeError, match="class_names cannot be set: .* Learn anew under others, or replace names in what predict"
    ):
        learner.class_names = ["crimson"]
    assert list(learner.class_names) == FIRST + SECOND


def test_names_given_as_numpy_strings_come_back_as_pythons():
    learner = SeGPCL(tiny_backbone(), small_config(method="frozen-prototypes"))
    learner.learn_task(made_images(2, 4), np.array(["cat", "dog"]))
    assert [type(name) for name in learner.class_names] == [str, str]
    assert type(learner.predict(made_images(1, 1)[0][0])[0][0].name) is str


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


def test_a_gradient_that_stops_being_finite_is_named_and_undone(monkeypatch):
    learner = SeGPCL(tiny_backbone(), small_config())
    before = state(learner)
    calls, original = [], type(learner.backbone).backward

    def broken(self, output, gradient):
        calls.append(1)  # images, then text, at every step
        original(self, output, gradient * (float("inf") if len(calls) == 4 else 1.0))

    monkeypatch.setattr(type(learner.backbone), "backward", broken)
    with pytest.raises(
        FloatingPointError, match="the gradient is not finite in task 1, epoch 1, step 2: classification"
    ):
        learner.learn_task(made_images(3, 10), FIRST)
    assert len(calls) == 4  # caught in that very step
    assert same(before, state(learner))


def test_a_learner_that_diverged_is_refused_and_undone():
    # One step: its loss was finite before the optimiser moved, so only the check of what was learnt can see it.
    one_step = {"training__epochs": 1, "training__batch_size": 64}
    learner = SeGPCL(tiny_backbone(), small_config(training__learning_rate=1e30, **one_step))
    before = state(learner)
    with pytest.raises(FloatingPointError, match="stopped being finite in task 1"):
        learner.learn_task(made_images(3, 10), FIRST)
    assert same(before, state(learner)) and list(learner.class_names) == []


def test_the_callers_random_numbers_are_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    learner = SeGPCL(tiny_backbone(), small_config())
    torch.manual_seed(5)
    learner.learn_task(made_images(3, 10), FIRST)
    learner.learn_task(made_images(2, 10, seed=3), SECOND)
    assert torch.equal(torch.rand(3), expected)


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


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_optimisers_path_is_the_textbooks(optimizer, monkeypatch):
    """Momentum 0.9 or AdamW, a cosine to zero over the task's steps, weight decay: computed anew from the gradients it saw."""
    rate, decay, steps = 0.02, 0.1, 6  # 6 images in batches of 2, two epochs
    config = small_config(
        method="lora", training__optimizer=optimizer, training__learning_rate=rate, training__weight_decay=decay,
        training__epochs=2, training__batch_size=2,
    )  # fmt: skip
    learner = SeGPCL(tiny_backbone(), config)
    seen, add = [], LossRecord.add

    def noted(self, step, terms, gradients, indices):
        seen.append(gradients.clone())
        add(self, step, terms, gradients, indices)

    monkeypatch.setattr(LossRecord, "add", noted)
    learner.learn_task(made_images(3, 2), FIRST)
    assert len(seen) == steps
    weights = torch.zeros_like(seen[0], dtype=torch.float64)  # B starts at zero
    first, second = torch.zeros_like(weights), torch.zeros_like(weights)
    for step, gradient in enumerate(seen):
        now = rate * (1 + math.cos(math.pi * step / steps)) / 2
        gradient = gradient.double()
        if optimizer == "sgd":
            first = 0.9 * first + gradient + decay * weights
            weights = weights - now * first
        else:
            first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
            unbiased = first / (1 - 0.9 ** (step + 1)), (second / (1 - 0.999 ** (step + 1))).sqrt()
            weights = weights - now * decay * weights - now * unbiased[0] / (unbiased[1] + 1e-8)
    found = torch.cat([p.detach().flatten() for p in learner.backbone.trained_parameters()])
    torch.testing.assert_close(found.double(), weights, rtol=1e-3, atol=1e-6)


def test_a_step_takes_its_own_number_of_anchors_and_tsgr_begins_in_the_first_task(monkeypatch):
    learner = SeGPCL(tiny_backbone(), small_config(training__batch_size=5, distillation__batch_size=4))
    assert "tsgr" in learner.learn_task(made_images(3, 10), FIRST).losses
    taken, take = [], Anchors.take
    monkeypatch.setattr(
        Anchors, "take", lambda self, pixels, which: (taken.append(which), take(self, pixels, which))[1]
    )
    assert learner.learn_task(made_images(2, 10, seed=3), SECOND).anchors == 9
    assert {len(set(which.tolist())) for which in taken} == {4, 9}  # of a step; of the transfer


def test_one_image_per_class_when_asked():
    learner = SeGPCL(tiny_backbone(), small_config(min_images_per_class=1))
    learner.learn_task(Labelled([0, 1]), ["cat", "dog"])
    assert list(learner.class_names) == ["cat", "dog"]


def test_methods_are_settings_of_one_config():
    config = MethodConfig(method="lwf")
    fixed = with_method(config)
    assert fixed.anchors.kind == "new-images" and fixed.text_geometry.weight == 0
    assert config.anchors.kind == "dpgd"  # the original is left alone
    assert with_method(MethodConfig()) == MethodConfig()


def test_eager_and_fused_ops_learn_the_same():
    """The kernels round differently, and signs of near-zero gradients may differ: close, not equal."""
    from segp_ext import reference

    eager_calls, results = [], {}
    original = reference.geometry_distill

    def counted(*arguments, **settings):
        eager_calls.append(arguments)
        return original(*arguments, **settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "geometry_distill", counted)
        results["fused"], _ = learnt(ops="fused")
        if segp_ext.build_info()["ops_path"] == "native":
            assert not eager_calls
        results["eager"], _ = learnt(ops="eager")
    assert eager_calls
    torch.testing.assert_close(results["fused"].prototypes, results["eager"].prototypes, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("setting", [{"accumulate": 3}, {"accumulate": 50}, {"prompts_per_pass": 2}])
def test_a_step_in_parts_is_the_same_step(setting):
    # Seeds as anchors: a sign step would turn a difference in rounding into one in pixels.
    changes = {"training__optimizer": "sgd", "training__learning_rate": 0.01, "anchors__kind": "seeds"}
    whole = state(learnt(**changes)[0])
    parts = state(learnt(**changes, **{f"training__{name}": value for name, value in setting.items()})[0])
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, rtol=0, atol=2e-5)
    longer = state(learnt(**{**changes, "training__learning_rate": 0.011})[0])
    assert max((whole[n] - longer[n]).abs().max().item() for n in whole) > 1e-3  # steps a tenth longer would show


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_learns_much_the_same(precision):
    changes = {"training__optimizer": "sgd", "training__learning_rate": 0.01, "anchors__kind": "seeds"}

    def with_precision(precision):
        backbone = tiny_backbone()
        backbone.precision = precision
        learner = SeGPCL(backbone, small_config(**changes))
        learner.learn_task(made_images(3, 10), FIRST)
        learner.learn_task(made_images(2, 10, seed=3), SECOND)
        return learner

    exact, half = with_precision("fp32"), with_precision(precision)
    for name, tensor in state(exact).items():
        if ".lora_B." in name and tensor.any():  # the output projection's stays zero
            assert half.backbone.adapter_state()[name].dtype == torch.float32
            apart, moved = (state(half)[name] - tensor).norm(), tensor.norm()
            assert apart < 0.2 * moved, (name, float(apart / moved))
    assert torch.nn.functional.cosine_similarity(half.prototypes, exact.prototypes).min() > 0.99


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


@pytest.mark.parametrize(
    ("changes", "prompts_a_step"),
    [
        ({"method": "lora"}, 2),
        ({"method": "lora", "training__classes": "seen"}, 5),
        ({"method": "lwf"}, 5),
        ({"anchors__kind": "none"}, 5),  # whose text geometry has old neighbours
    ],
)
def test_a_step_encodes_the_prompts_that_a_term_needs(changes, prompts_a_step, monkeypatch):
    learner = SeGPCL(tiny_backbone(), small_config(**changes))
    learner.learn_task(made_images(3, 10), FIRST)
    encoded, encode = [], learner.backbone.encode_text

    def counted(tokens):
        if torch.is_grad_enabled():
            encoded.append(len(tokens))
        return encode(tokens)

    monkeypatch.setattr(learner.backbone, "encode_text", counted)
    learner.learn_task(made_images(2, 10, seed=3), SECOND)
    assert encoded and set(encoded) == {prompts_a_step}


@pytest.mark.parametrize("method", ["segp", "adc"])
def test_a_task_smaller_than_the_seeds_takes_what_is_there(method):
    learner = SeGPCL(tiny_backbone(), small_config(method=method, anchors__seeds_per_class=11, min_images_per_class=1))
    learner.learn_task(made_images(3, 2), FIRST)  # the first task needs no seeds
    with pytest.warns(
        RuntimeWarning, match="task 2 has 4 training images, fewer than the .* seeds.*every old class takes all"
    ) as said:
        report = learner.learn_task(made_images(2, 2, seed=3), SECOND)
    assert report.anchors == 3 * 4 and [warning.filename for warning in said] == [__file__]


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
    return list(learner.class_names), learner.task_sizes, {**learner.tensors(), **learner.backbone.adapter_state()}


def test_half_precision_that_never_takes_a_step_is_an_error(monkeypatch):
    from segp_ext.clip.pretrained import load_clip

    backbone = load_clip("glyph", precision="fp16")
    usual = backbone.backward
    learner = SeGPCL(backbone, MethodConfig(training=TrainingConfig(epochs=2, batch_size=4)))
    images = [(torch.randint(0, 255, (3, 16, 16), dtype=torch.uint8), n % 2) for n in range(8)]
    monkeypatch.setattr(
        "segp_ext.method.losses.classification.classification_loss",
        lambda *_: torch.tensor(torch.nan, requires_grad=True),
    )
    with pytest.raises(FloatingPointError, match="the loss is not finite in task 1, epoch 1, step 1"):
        learner.learn_task(images, ["a", "b"])
    monkeypatch.undo()
    monkeypatch.setattr(backbone, "backward", lambda output, gradient: usual(output, gradient * torch.nan))
    with pytest.raises(
        FloatingPointError, match="overflow half precision at every loss scale down to 256 in task 1, epoch 1"
    ):
        learner.learn_task(images, ["a", "b"])
    assert list(learner.class_names) == []


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


def test_names_that_stand_twice_read_the_same():
    with pytest.raises(ValueError, match="class names 'cat' and 'cat' read the same"):
        prompts(tiny_backbone(), "a {}.", ["cat", "dog", "cat"])


def test_names_that_differ_in_the_writing_of_accents_alone_are_refused():
    learner = SeGPCL(segp_ext.load_clip("glyph"), small_config())
    with pytest.raises(ValueError, match="read the same to the text encoder"):
        learner.learn_task(made_images(2, 4), ["caf\u00e9", "cafe\u0301"])
    assert learner.class_names == ()


def test_learning_and_predicting_inside_an_event_loop():
    async def work():
        learner, _ = learnt()
        return learner.predict(made_images(2, 2)[0][0])

    assert asyncio.run(work()) == learnt()[0].predict(made_images(2, 2)[0][0])


def test_an_image_too_narrow_to_be_resized_is_named(monkeypatch):
    learner, _ = learnt()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4000)  # PIL refuses twice as many
    assert len(learner.predict([Image.new("RGB", (1, 125))])) == 1
    with pytest.raises(
        ValueError, match=r"image 1: 1 × 126 pixels are too narrow: resized they would be 8 × 1,008; crop it"
    ):
        learner.predict([Image.new("RGB", (8, 8)), Image.new("RGB", (1, 126))])


@pytest.mark.parametrize("score", ["cosine", "mahalanobis"])
def test_what_predicts_and_copies_stay_as_they_were_while_the_learner_learns(score):
    learner = SeGPCL(tiny_backbone(), small_config(prototypes__score=score))
    learner.learn_task(made_images(3, 10), FIRST)
    images = [image for image, _ in made_images(3, 4)]
    asked, twin, expected = learner.classifier(), learner.copy(), learner.predict(images)
    learner.learn_task(made_images(2, 10, seed=3), SECOND)
    assert asked.predict(images) == twin.predict(images) == expected
    later = learner.predict(images)
    twin.learn_task(made_images(2, 10, seed=5), ["fish", "bird"])
    assert learner.predict(images) == later


def test_a_copy_has_settings_of_its_own():
    learner, _ = learnt()
    images = [image for image, _ in made_images(2, 4)]
    expected, twin = learner.predict(images), learner.copy()
    twin.config.inference.beta, twin.config.inference.path = 100.0, "visual"
    assert learner.predict(images) == expected != twin.predict(images)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("template", "photo", "template must be a string with one {}"),
        ("inference__beta", math.nan, "inference.beta must be"),
        ("inference__beta", "0.5", "inference.beta must be a number"),
        ("inference__batch_size", 0, "inference.batch_size must be"),
        ("min_images_per_class", 0, "min_images_per_class must be 1 or more"),
        ("training__epochs", "3", "training.epochs must be a whole number"),
        ("loading__orientation", "up", "loading.orientation must be one of"),
    ],
)
def test_a_setting_that_is_changed_to_what_it_cannot_be_is_named(name, value, message):
    learner, _ = learnt()
    before = state(learner)
    section, _, field = name.partition("__")
    setattr(getattr(learner.config, section) if field else learner.config, field or section, value)
    with pytest.raises(ValueError, match=message):
        learner.predict(made_images(1, 1)[0][0])
    with pytest.raises(ValueError, match=message):
        learner.learn_task(made_images(2, 10, seed=5), ["fish", "bird"])
    assert same(state(learner), before)


def test_a_learner_that_was_made_without_an_adapter_cannot_begin_to_train():
    learner = SeGPCL(tiny_backbone(), small_config(training__epochs=0))
    learner.learn_task(made_images(3, 10), FIRST)
    learner.config.training.epochs = 5
    with pytest.raises(
        ValueError, match="training.epochs must stay 0, as it was when this learner was made without an adapter; got 5"
    ):
        learner.learn_task(made_images(2, 10, seed=3), SECOND)


def test_learning_follows_changed_settings_of_loading(tmp_path):
    learner, _ = learnt()
    turned = Image.fromarray(np.random.RandomState(0).randint(0, 256, (8, 8, 3), np.uint8))
    exif = turned.getexif()
    exif[0x112] = 6
    turned.save(tmp_path / "t.png", exif=exif)

    def read():
        return next(iter(Images([(str(tmp_path / "t.png"), 0)], learner.reader).read([torch.tensor([0])])))[1][0]

    stored, reader = read(), learner.reader
    assert reader is learner.reader
    learner.config.loading.orientation = "exif"
    assert torch.equal(read(), stored.rot90(-1, (1, 2))) and not torch.equal(read(), stored)


def test_a_set_of_images_is_refused():
    learner, _ = learnt()
    with pytest.raises(TypeError, match="images must have an order, which answers follow; got a set. Pass a list"):
        learner.predict({"a.png", "b.png"})
