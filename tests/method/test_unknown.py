"""How well images fit the learnt classes, and the learners that call images unknown."""

import math

import pytest
import torch
import torch.nn.functional as F
from made import made_images, small_config, tiny_backbone
from method.heads.feature_sets import CPU, features
from method.learners import learnt

from segp_ext.config import MethodConfig, PrototypesConfig
from segp_ext.method.class_statistics import ClassStatistics
from segp_ext.method.learner import SeGPCL
from segp_ext.method.unknown import (
    Background,
    background_of,
    energy,
    fit_scores,
    largest_probability,
    left_out_fit_scores,
    nearest,
)
from segp_ext.runtime.processes import Processes


def statistics_of(feature, label, **settings):
    """Statistics of all classes, learnt in one task."""
    config = MethodConfig(prototypes=PrototypesConfig(**settings))
    found = ClassStatistics(feature.shape[1], CPU, torch.float32, config)
    found.begin(int(label.max()) + 1)
    found.add(feature, label, torch.arange(len(label)))
    found.finish(found.prototypes, found.means(Processes()), Processes())
    return found


def test_probability_energy_and_nearest_anchor_by_hand():
    scores = torch.tensor([[2 * math.log(3), 0.0], [0.0, 0.0]])
    assert largest_probability(scores, 2.0).tolist() == pytest.approx([0.75, 0.5])
    assert energy(scores, 2.0).tolist() == pytest.approx([math.log(4), math.log(2)])
    anchors = torch.tensor([[2.0, 0.0], [0.0, 0.5], [1.0, 1.0]])
    assert nearest(torch.tensor([[3.0, 4.0], [-1.0, 0.0]]), anchors).tolist() == pytest.approx([7 / math.sqrt(50), 0])
    assert nearest(anchors, anchors, own=True).tolist() == pytest.approx([math.sqrt(0.5)] * 3)


def test_the_background_by_hand():
    """Classes at −3 ± 1 and 3 ± 1: one distribution about 0 with variance 10. Without the image at 4, it has −4/3 and 56/9."""
    feature, label = torch.tensor([[-4.0], [-2.0], [2.0], [4.0]]), torch.tensor([0, 0, 1, 1])
    settings = {"score": "mahalanobis", "features": "raw", "shrinkage": 0.0, "own_covariance": 0.5}
    found = background_of(statistics_of(feature, label, **settings))
    assert found.mean.tolist() == [0] and found.count == 4 and found.volume == pytest.approx(math.log(10) / 2)
    assert float(found.factor**2) == pytest.approx(0.1)
    point = torch.tensor([[4.0]], dtype=torch.float64)
    assert float(found.scores(point)) == pytest.approx(-0.8 - math.log(10) / 2)
    # Σ − d dᵀ/(n − 1) = 10 − 16/3, without the change of scale 4/3, and the distance from the mean of the others is 16/3.
    left = 10 - 16 / 3
    assert float(found.left_out_scores(point)) == pytest.approx(-0.5 * (16 / 3) ** 2 / left - math.log(left) / 2)


@pytest.mark.parametrize("own", [0.0, 0.5])
def test_the_fit_is_the_best_class_against_the_background(own):
    feature, label = features()
    settings = {"score": "mahalanobis", "features": "raw", "own_covariance": own}
    known = statistics_of(feature, label, **settings)
    background = background_of(known)
    normal = torch.distributions.MultivariateNormal(
        feature.double().mean(0),
        (1 - background.share) * feature.double().T.cov(correction=0)
        + background.share * feature.double().T.cov(correction=0).diagonal().mean() * torch.eye(5),
    )
    constant = 2.5 * math.log(2 * math.pi)
    expected = known.scores(feature, 1.0).double().amax(dim=1) - normal.log_prob(feature.double()) - constant
    torch.testing.assert_close(fit_scores(known, feature, 1.0, background), expected, rtol=1e-4, atol=1e-3)


def test_images_far_from_all_classes_fit_less():
    feature, label = features()
    far = feature + 40
    for settings in ({"score": "mahalanobis", "own_covariance": 0.5, "features": "raw"}, {"score": "cosine"}):
        known = statistics_of(feature, label, **settings)
        background = background_of(known)
        assert (background is None) == (settings["score"] == "cosine")
        near, away = (fit_scores(known, rows, 1.0, background) for rows in (feature, far))
        assert float(near.median()) > float(away.median())


def test_a_cosine_head_takes_the_nearest_prototype_whatever_the_length():
    feature, label = features()
    known = statistics_of(feature, label, score="cosine")
    expected = 4 * nearest(feature, known.prototypes)
    torch.testing.assert_close(fit_scores(known, feature, 4.0, None), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(fit_scores(known, 9 * feature, 4.0, None), expected, rtol=1e-5, atol=1e-5)


def without(feature, label, place, **settings):
    keep = torch.arange(len(label)) != place
    return statistics_of(feature[keep], label[keep], **settings)


@pytest.mark.parametrize(("count", "part"), [(18, 0.5), (120, 0.15)])
@pytest.mark.parametrize(
    ("settings", "exact"),
    [
        ({"score": "cosine"}, True),
        ({"score": "cosine", "features": "raw"}, True),
        ({"score": "mahalanobis", "features": "raw", "shrinkage": 0.1}, False),
        ({"score": "mahalanobis", "features": "raw", "shrinkage": 0.1, "own_covariance": 0.5}, False),
        ({"score": "mahalanobis", "features": "unit", "shrinkage": 0.1, "own_covariance": 1.0}, False),
    ],
    ids=str,
)
def test_left_out_scores_are_those_of_statistics_without_the_image(settings, exact, count, part):
    """Discriminant analysis leaves out the change of scale, 1/n; that is much less than the image's own weight."""
    feature, label = features(count=count)
    known = statistics_of(feature, label, **settings)
    found = known.held_back_scores(feature, label, 3.0)
    fit = left_out_fit_scores(known, feature, found, background_of(known))
    learnt_scores, learnt_fit = (
        known.scores(feature, 3.0).double(),
        fit_scores(known, feature, 3.0, background_of(known)),
    )
    expected, expected_fit = [], []
    for place in range(count):
        rest = without(feature, label, place, **settings)
        expected.append(rest.scores(feature[place : place + 1], 3.0)[0].double())
        expected_fit.append(fit_scores(rest, feature[place : place + 1], 3.0, background_of(rest))[0])
    expected, expected_fit = torch.stack(expected), torch.stack(expected_fit)
    if exact:
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(fit, expected_fit, rtol=1e-4, atol=1e-4)
    own = label[:, None]
    for got, aim, before in (
        (found.gather(1, own), expected.gather(1, own), learnt_scores.gather(1, own)),
        (fit, expected_fit, learnt_fit),
    ):
        assert float((got - aim).abs().mean()) < part * float((before - aim).abs().mean())
        assert float((got - aim).mean().abs()) < part * float((before - aim).mean().abs())


def test_statistics_that_cannot_tell_say_so():
    feature, label = features()
    known = statistics_of(feature, label, score="mahalanobis", own_covariance=0.5)
    known.counts[0] = -1  # a class of an older learner
    assert background_of(known) is None


def images(seed):
    return [image for image, _ in made_images(2, 20, seed=seed)]


@pytest.fixture(scope="module")
def auto():
    learner = SeGPCL(tiny_backbone(), small_config(method="auto"))
    learner.learn_task(made_images(3, 30), ["red", "green", "blue"])
    learner.learn_task(made_images(2, 30, seed=3), ["cat", "dog"])
    return learner


def test_the_limit_follows_the_learner_through_tasks(auto):
    fit = auto.calibration.fit
    assert auto.calibration.images == len(auto.held) == 5 * 6 and {*auto.held.label.tolist()} == {0, 1, 2, 3, 4}
    known, feature = auto.frozen, auto.held.frozen
    scores = known.held_back_scores(feature, auto.held.label, auto.backbone.logit_scale)
    again = left_out_fit_scores(known, feature, scores, background_of(known))
    assert fit[0] == pytest.approx(float(again.min())) and fit[-1] == pytest.approx(float(again.max()))


@pytest.mark.parametrize("path", ["text", "dual", "frozen", "auto"])
@pytest.mark.parametrize("others", [(), ("zebra",)])
def test_verdict_and_probabilities_come_from_one_pass(auto, path, others, monkeypatch):
    classifier = auto.classifier()
    pixels = classifier.backbone.to_unit(torch.stack([torch.from_numpy(image) for image in images(3)]))
    expected = classifier.probabilities(pixels, path, others)
    assert classifier.answer(pixels, path, others).unknown is None
    passes = []
    for backbone in (classifier.backbone, classifier.frozen.backbone):
        encode = backbone.encode_image
        monkeypatch.setattr(
            backbone, "encode_image", lambda x, encode=encode, of=backbone: passes.append(of) or encode(x)
        )
    found = classifier.answer(pixels, path, others, 0.5)
    torch.testing.assert_close(found.probabilities, expected)
    assert len(passes) == len({id(of) for of in passes}) and classifier.frozen.backbone in passes
    fit = classifier.unknown_scores(classifier.features(pixels, path, on_frozen=True))
    assert torch.equal(found.unknown, fit < classifier.unknown_limit(0.5))
    assert 0 < int(found.unknown.sum()) < len(pixels)
    assert (found.unknown_share[found.unknown] >= 0.48).all() and (found.unknown_share[~found.unknown] <= 0.51).all()


def test_an_unknown_image_has_no_name_unless_another_name_wins(auto):
    shown = images(3)
    named, verdicts = auto.predict(shown, 2), auto.predict(shown, 2, unknown=0.5)
    unknown = [found[0].name is None for found in verdicts]
    assert any(unknown) and not all(unknown)
    for before, found, far in zip(named, verdicts, unknown, strict=True):
        assert (len(found) == 1 and 0.48 <= found[0].score <= 1) if far else found == before
    with_others = auto.predict(shown, 2, "text", ["zebra"], unknown=0.5)
    plain = auto.predict(shown, 2, "text", ["zebra"])
    for before, found, far in zip(plain, with_others, unknown, strict=True):
        assert (found[0].name is None) == (far and before[0].name != "zebra")


def test_a_smaller_rate_calls_fewer_images_unknown(auto):
    asked = [auto.predict(images(3), unknown=rate) for rate in (0.1, 0.5, 0.95)]
    counts = [sum(found[0].name is None for found in answers) for answers in asked]
    assert counts[0] < counts[1] < counts[2]


def test_a_learner_without_a_frozen_head_uses_its_own():
    learner, _ = learnt(calibration__fraction=0.3)
    classifier = learner.classifier()
    pixels = classifier.backbone.to_unit(torch.from_numpy(images(0)[0])[None])
    features = classifier.features(pixels, "text", on_frozen=True)
    assert features.frozen is None
    expected = classifier.backbone.logit_scale * nearest(features.raw, learner.prototypes)
    torch.testing.assert_close(classifier.unknown_scores(features), expected, rtol=1e-4, atol=1e-4)


def test_what_cannot_be_answered_is_refused(auto):
    image = images(0)[0]
    with pytest.raises(ValueError, match="^unknown must be the share .* above 0 and below 1; got 2$"):
        auto.predict(image, unknown=2)
    with pytest.raises(ValueError, match="^this learner knows no limit for unknown images"):
        learnt(training__epochs=0)[0].predict(image, unknown=0.05)


def test_a_saved_learner_gives_the_same_verdicts(auto):
    measured = auto.calibration
    other = auto.copy()
    assert other.calibration == measured and other.predict(images(3), unknown=0.3) == auto.predict(
        images(3), unknown=0.3
    )


def test_a_background_of_unit_length_features_is_that_of_the_head():
    feature, label = features()
    known = statistics_of(feature, label, score="mahalanobis", own_covariance=0.5)
    unit = F.normalize(feature.double(), dim=1)
    found = background_of(known)
    assert isinstance(found, Background)
    torch.testing.assert_close(found.mean, unit.mean(0), rtol=1e-5, atol=1e-6)
    covariance = unit.T.cov(correction=0)
    level = covariance.diagonal().mean()
    expected = (1 - found.share) * covariance + found.share * level * torch.eye(5)
    torch.testing.assert_close(torch.linalg.inv(found.factor @ found.factor.T), expected, rtol=1e-4, atol=1e-7)
