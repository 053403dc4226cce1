"""The learner on a tiny CLIP: what it learns and predicts, task after task."""

import asyncio
import copy

import pytest
import torch
import torch.nn.functional as F
from made import encoded, images_of, made_images, pixels_of, small_config, tiny_backbone
from method.learners import FIRST, SECOND, learnt, same, state

import segp_ext
from segp_ext.config import MethodConfig, with_method
from segp_ext.method.learner import SeGPCL


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


def test_a_learner_is_made_of_a_backbone_and_a_config():
    with pytest.raises(TypeError, match=r"backbone must be what segp_ext.load_clip gives; got str"):
        SeGPCL("glyph")
    with pytest.raises(TypeError, match="config must be a segp_ext.MethodConfig; got dict"):
        SeGPCL(tiny_backbone(), {"method": "lwf"})


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


def test_a_learner_has_no_modes():
    learner, _ = learnt()
    assert learner.eval() is learner and learner.train(False) is learner
    with pytest.raises(TypeError, match="a learner has no training mode; learn_task"):
        learner.train()


def test_the_callers_random_numbers_are_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    learner = SeGPCL(tiny_backbone(), small_config())
    torch.manual_seed(5)
    learner.learn_task(made_images(3, 10), FIRST)
    learner.learn_task(made_images(2, 10, seed=3), SECOND)
    assert torch.equal(torch.rand(3), expected)


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


def test_learning_and_predicting_inside_an_event_loop():
    async def work():
        learner, _ = learnt()
        return learner.predict(made_images(2, 2)[0][0])

    assert asyncio.run(work()) == learnt()[0].predict(made_images(2, 2)[0][0])


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
