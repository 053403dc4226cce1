"""The linear probe, by numbers worked out another way."""

import json

import pytest
import torch
import torch.nn.functional as F
from method.heads.feature_sets import CPU, features, learnt

from segp_ext import train
from segp_ext.config import (
    MethodConfig,
    PrototypesConfig,
    TrainingConfig,
)
from segp_ext.method.heads import LinearProbe
from segp_ext.method.named_parts import check_parts


def test_the_probe_is_logistic_regression(monkeypatch):
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    feature, label = features()
    feature = feature * torch.tensor([1.0, 10, 100, 0.1, 1]) + 5
    monkeypatch.setattr("segp_ext.method.heads.probe._PENALTIES", (1e-3,))
    head = learnt(LinearProbe(5, CPU, MethodConfig()), feature, label, (6,))
    scaler = StandardScaler().fit(feature.numpy())
    fitted = LogisticRegression(C=1 / (2 * 1e-3 * len(label)), tol=1e-10, max_iter=10_000)
    fitted.fit(scaler.transform(feature.numpy()), label.numpy())
    test = features(seed=1)[0] + 5
    expected = torch.from_numpy(fitted.predict_log_proba(scaler.transform(test.numpy()))).float()
    torch.testing.assert_close(head.scores(test, test, 1.0).log_softmax(dim=1), expected, rtol=0.02, atol=0.02)


def test_the_probes_penalty_is_the_best_on_images_left_out(monkeypatch):
    feature, label = features(count=40)
    feature, label = feature + 6 * torch.randn(feature.shape, generator=torch.Generator().manual_seed(5)), label
    held = torch.arange(40) % 5 == 4
    losses = {}
    for penalty in (1.0, 1e-2, 1e-6):
        monkeypatch.setattr("segp_ext.method.heads.probe._PENALTIES", (penalty,))
        head = learnt(LinearProbe(5, CPU, MethodConfig()), feature[~held], label[~held], (6,))
        losses[penalty] = float(F.cross_entropy(head.scores(feature[held], feature, 1.0), label[held]))
        whole = learnt(LinearProbe(5, CPU, MethodConfig()), feature, label, (6,))
        losses[penalty] = losses[penalty], whole.weight
    monkeypatch.setattr("segp_ext.method.heads.probe._PENALTIES", tuple(losses))
    chosen = learnt(LinearProbe(5, CPU, MethodConfig()), feature, label, (6,)).weight
    best = min(losses.values(), key=lambda found: found[0])[1]
    torch.testing.assert_close(chosen, best, rtol=1e-4, atol=1e-6)


def test_a_probe_kept_gives_the_same_scores():
    feature, label = features()
    head, other = learnt(LinearProbe(5, CPU, MethodConfig()), feature, label, (6,)), LinearProbe(5, CPU, MethodConfig())
    other.restore(head.state())
    assert head.scores(feature, feature, 1.0).std() > 0.1 and torch.equal(
        other.scores(feature, feature, 1.0), head.scores(feature, feature, 1.0)
    )


@pytest.mark.slow
def test_the_probe_is_for_frozen_models_and_all_tasks(tmp_path):
    fast = ["--data.max_images_per_class=20", "--data.classes_per_task=5"]
    assert train.main(["--method=linear-probe", *fast, f"--run.directory={tmp_path}", "--run.name=run"]) == 0
    scores = json.loads((tmp_path / "run/result.json").read_text())["scores"]
    assert scores["linear-probe (visual)"]["last"] > scores["frozen prototypes"]["last"] - 0.05
    probe = PrototypesConfig(score="probe")
    with pytest.raises(ValueError, match="score probe needs a frozen model"):
        check_parts(MethodConfig(prototypes=probe, training=TrainingConfig(joint=True)))
    with pytest.raises(ValueError, match="training.joint must be true; got false"):
        check_parts(MethodConfig(prototypes=probe, training=TrainingConfig(epochs=0)))
