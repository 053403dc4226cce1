"""Covariance heads: discriminant analysis, by numbers worked out another way."""

import math

import pytest
import torch
import torch.nn.functional as F
from method.heads.feature_sets import CPU, check_kept, features, learnt

from segp_ext.config import (
    MethodConfig,
    PrototypesConfig,
)
from segp_ext.method.heads import Gaussians


def gaussians(width, features="raw", **settings):
    return Gaussians(width, CPU, MethodConfig(prototypes=PrototypesConfig(features=features, **settings)))


@pytest.mark.parametrize("count", [8, 30, 3000])
def test_estimated_shrinkage_is_oracle_approximating(count):
    from sklearn.covariance import OAS

    feature, label = features(count=count, classes=2)
    head = learnt(gaussians(5), feature, label, (1, 1))
    centred = torch.cat([feature[label == c] - feature[label == c].mean(0) for c in range(2)])
    expected = OAS(assume_centered=True).fit(centred.double().numpy())
    torch.testing.assert_close(
        head._factors[0] @ head._factors[0].T, torch.from_numpy(expected.precision_), rtol=1e-5, atol=1e-7
    )


def test_images_that_are_all_alike_have_a_covariance():
    head = learnt(gaussians(5), torch.ones(6, 5), torch.arange(6) % 2, (2,))
    assert head.scores(torch.ones(1, 5), torch.ones(2, 5), 1.0).isfinite().all()


@pytest.mark.parametrize("sizes", [(6,), (2, 2, 2), (1, 5)])
def test_covariance_scores_are_discriminant_analysis_whatever_the_tasks(sizes):
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    feature, label = features()
    head = learnt(gaussians(5, shrinkage=0.0), feature, label, sizes)
    means = torch.stack([feature[label == c].mean(0) for c in range(6)])
    joint = LinearDiscriminantAnalysis(solver="lsqr", priors=[1 / 6] * 6).fit(feature.numpy(), label.numpy())
    test, _ = features(seed=1)
    expected = torch.from_numpy(joint.predict_log_proba(test.numpy())).float()
    torch.testing.assert_close(F.log_softmax(head.scores(test, means, 1.0), dim=1), expected, rtol=5e-2, atol=0.1)
    assert head.counts.tolist() == [200]


@pytest.mark.parametrize("own", [0.3, 1.0])
@pytest.mark.parametrize("sizes", [(6,), (2, 2, 2), (1, 5)])
def test_own_covariances_are_normal_distributions_whatever_the_tasks(own, sizes):
    feature, label = features()
    head = learnt(gaussians(5, shrinkage=0.1, own_covariance=own), feature, label, sizes)
    means = torch.stack([feature[label == c].mean(0) for c in range(6)]).double()
    centred = [feature[label == c].double() - means[c] for c in range(6)]
    shared = sum(rows.T @ rows for rows in centred) / 200
    test, expected = features(seed=1)[0].double(), []
    for mean, rows in zip(means, centred, strict=True):
        mixed = (1 - own) * shared + own * rows.T @ rows / len(rows)
        covariance = 0.9 * mixed + 0.1 * mixed.diagonal().mean() * torch.eye(5)
        expected.append(torch.distributions.MultivariateNormal(mean, covariance).log_prob(test))
    expected = torch.stack(expected, dim=1) + 2.5 * math.log(2 * math.pi)
    torch.testing.assert_close(head.scores(test.float(), means.float(), 1.0), expected.float(), rtol=1e-4, atol=1e-3)
    assert head.counts.sum() == 200 and head.scatters.shape == (6, 5, 5)


@pytest.mark.parametrize("own", [0.0, 0.5])
def test_unit_features_are_normal_about_the_means_of_unit_features(own):
    feature, label = features()
    rows = F.normalize(feature.double(), dim=1).float()
    means = torch.stack([rows[label == c].mean(0) for c in range(6)])
    expected = learnt(gaussians(5, own_covariance=own), rows, label, (2, 4)).scores(rows, means, 1.0)
    head = learnt(gaussians(5, features="unit", own_covariance=own), feature, label, (2, 4))
    torch.testing.assert_close(head.scores(feature, F.normalize(means, dim=1), 1.0), expected, rtol=1e-4, atol=1e-3)


def test_shrinkage_goes_from_the_covariance_to_a_sphere():
    feature, label = features()
    means = torch.stack([feature[label == c].mean(0) for c in range(6)])
    sphere = learnt(gaussians(5, shrinkage=1.0), feature, label, (3, 3))
    variance = sphere.scatters[0].diagonal().mean() / 200
    expected = -0.5 * torch.cdist(feature, means).double().square() / variance
    torch.testing.assert_close(sphere.scores(feature, means, 1.0), expected.float(), rtol=1e-3, atol=1e-3)


def test_few_images_leave_the_scores_finite():
    head = learnt(gaussians(50, shrinkage=0.01), torch.randn(4, 50), torch.tensor([0, 0, 1, 1]), (2,))
    assert head.scores(torch.randn(3, 50), torch.randn(2, 50), 1.0).isfinite().all()
    alike = learnt(gaussians(4, shrinkage=0.01), torch.ones(4, 4), torch.tensor([0, 0, 1, 1]), (2,))
    assert alike.scores(torch.randn(3, 4), torch.randn(2, 4), 1.0).isfinite().all()
    one_each = learnt(gaussians(4, shrinkage=0.0, own_covariance=0.5), torch.randn(3, 4), torch.arange(3), (3,))
    assert one_each.scores(torch.randn(3, 4), torch.randn(3, 4), 1.0).isfinite().all()


@pytest.mark.parametrize("settings", [{"shrinkage": 0.1}, {"own_covariance": 0.3}, {"features": "unit"}], ids=str)
def test_what_is_kept_gives_the_same_scores(settings):
    check_kept(lambda: gaussians(5, **settings))


@pytest.mark.parametrize("own", [0.0, 0.5])
def test_a_task_that_ends_in_the_middle_leaves_the_head_as_it_was(monkeypatch, own):
    feature, label = features()
    head = learnt(gaussians(5, own_covariance=own), feature, label, (3,))
    before = {name: tensor.clone() for name, tensor in head.state().items()}

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(torch.linalg, "eigh", interrupted)
    with pytest.raises(KeyboardInterrupt):
        learnt(head, feature, label - 3, (3,))
    assert all(torch.equal(tensor, before[name]) for name, tensor in head.state().items())


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("counts", torch.ones(2), r"head.counts must be \[3\] for 3 classes; got \[2\]"),
        ("scatters", torch.ones(1, 5, 5), r"head.scatters must be \[3, 5, 5\] for 3 classes; got \[1, 5, 5\]"),
        ("lengths", torch.ones(1), r"head.scatters must be \[1, 5, 5\] for 1 classes; got \[3, 5, 5\]"),
    ],
)
def test_a_kept_head_that_does_not_fit_is_refused(name, wrong, message):
    feature, label = features()
    kept = learnt(gaussians(5, own_covariance=0.5), feature, label, (3,)).state()
    with pytest.raises(ValueError, match=message):
        gaussians(5, own_covariance=0.5).restore({**kept, name: wrong.double()})
