"""How prototypes follow the drift, rule by rule."""

import pytest
import torch
import torch.nn.functional as F

from segp_ext.config import (
    PrototypesConfig,
)
from segp_ext.method.prototypes import transfer


@pytest.mark.parametrize("features", ["unit", "raw"])
def test_drift_rules(features):
    draw = torch.Generator().manual_seed(0)
    p, before, after = (torch.randn(n, 4, generator=draw) for n in (3, 12, 12))
    own = F.normalize(p, dim=1)
    if features == "unit":
        p = own

    def moved(rule, temperature=0.1):
        settings = PrototypesConfig(transfer=rule, features=features, temperature=temperature)
        return transfer(p, before, after, settings)

    def close(rule, expected, **settings):
        unit = F.normalize(expected, dim=1) if features == "unit" else expected
        torch.testing.assert_close(moved(rule, **settings), unit, rtol=1e-4, atol=1e-4)

    b, a = (F.normalize(rows, dim=1) for rows in (before, after))
    taken = (b, a) if features == "unit" else (before, after)
    gauss = torch.exp(-torch.cdist(own, b).square() / (2 * 0.3**2))  # Semantic Drift Compensation, sigma 0.3
    close("sdc", p + (gauss / gauss.sum(dim=1, keepdim=True)) @ (taken[1] - taken[0]), temperature=0.09)
    alike = own @ b.T
    weight = (alike / 0.1).softmax(dim=1)
    proximity = (weight * alike.clamp(min=0)).sum(dim=1, keepdim=True)
    assert proximity.max() < 0.99
    close("all-anchors", p + proximity * (weight @ (taken[1] - taken[0])))
    means = [(taken[1] - taken[0])[4 * c : 4 * c + 4].mean(dim=0) for c in range(3)]
    close("adc", p + torch.stack(means))
    turned = []
    for c in range(3):
        rows = slice(4 * c, 4 * c + 4)
        turned.append(own[c] + ((b[rows] @ own[c])[:, None] * (a - b)[rows]).mean(dim=0))
    close("own-anchors", F.normalize(torch.stack(turned), dim=1) * p.norm(dim=1, keepdim=True))
