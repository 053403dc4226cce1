"""The ridge head (RanPAC), by numbers worked out another way."""

import pytest
import torch
import torch.nn.functional as F
from method.heads.feature_sets import CPU, check_kept, features, learnt

from segp_ext.config import (
    MethodConfig,
    PrototypesConfig,
)
from segp_ext.method.heads import Ridge


@pytest.mark.parametrize("sizes", [(6,), (2, 2, 2)])
def test_ridge_is_that_of_all_images_at_once(sizes):
    feature, label = features()
    head = learnt(
        Ridge(5, CPU, MethodConfig(seed=3, prototypes=PrototypesConfig(random_features=40))), feature, label, sizes
    )
    projection = torch.randn(5, 40, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    h = F.relu(F.normalize(feature.double(), dim=-1) @ projection)
    target = F.one_hot(label, 6).double()
    weights = torch.linalg.solve(h.T @ h + 10.0**head.power * torch.eye(40), h.T @ target)
    torch.testing.assert_close(head.scores(feature, None, 1.0), (h @ weights).float(), rtol=1e-4, atol=1e-4)


def test_the_penalty_is_the_best_on_images_left_out():
    feature, label = features(count=60)
    head = learnt(
        Ridge(5, CPU, MethodConfig(seed=3, prototypes=PrototypesConfig(random_features=40))), feature, label, (6,)
    )
    h = head._lifted(feature)
    target = F.one_hot(label, 6).double()
    held = torch.arange(60) % 5 == 4
    errors = {}
    for power in range(-8, 10):
        gram = h[~held].T @ h[~held] + 10.0**power * torch.eye(40, dtype=torch.float64)
        errors[power] = float(
            (h[held] @ torch.linalg.solve(gram, h[~held].T @ target[~held]) - target[held]).square().sum()
        )
    assert errors[head.power] <= min(errors.values()) * (1 + 1e-6)


def test_what_is_kept_gives_the_same_scores():
    check_kept(lambda: Ridge(5, CPU, MethodConfig(seed=3, prototypes=PrototypesConfig(random_features=20))))
