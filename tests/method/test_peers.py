"""The methods to compare with: each does what its paper says, by numbers worked out another way."""

import json
import math

import pytest
import torch
import torch.nn.functional as F
from made import tiny_backbone
from trees import make

from segp_ext import train
from segp_ext.config import (
    AnchorsConfig,
    DataConfig,
    LoraConfig,
    MethodConfig,
    PrototypesConfig,
    TrainingConfig,
    with_method,
)
from segp_ext.config.methods import METHODS
from segp_ext.data import load_scenario
from segp_ext.method.heads import Gaussians, LinearProbe, Ridge
from segp_ext.method.learner import SeGPCL
from segp_ext.method.parts import check_parts
from segp_ext.method.prototypes import transfer
from segp_ext.method.sources import Adc, Teacher, select_seeds
from segp_ext.run.command_line import parse
from segp_ext.run.preflight import attempts
from segp_ext.runtime.processes import Processes

CPU = torch.device("cpu")


def features(seed=0, count=200, classes=6, width=5):
    """Features around class centres, with labels."""
    draw = torch.Generator().manual_seed(seed)
    label = torch.arange(count) % classes
    mixing = torch.randn(width, width, generator=draw)
    centre = 3 * torch.randn(classes, width, generator=draw)
    return centre[label] + torch.randn(count, width, generator=draw) @ mixing, label


def learnt(head, feature, label, sizes):
    """The head after tasks of so many classes each."""
    start = 0
    for size in sizes:
        chosen = (label >= start) & (label < start + size)
        head.begin(size)
        for rows in chosen.nonzero().flatten().split(7):
            head.add(feature[rows], label[rows] - start, rows)
        head.finish(Processes())
        start += size
    return head


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


@pytest.mark.slow
def test_joint_training_is_learning_all_at_once(tmp_path):
    """Each task of such a run begins from the pre-trained model, with the images of all tasks so far."""
    fast = [
        "--data.max_images_per_class=6",
        "--training.epochs=1",
        "--training.batch_size=16",
        "--data.classes_per_task=5",
    ]
    where = [f"--run.directory={tmp_path}", "--run.name=run"]
    assert train.main(["--method=joint", *fast, *where]) == 0
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert [task["images"] for task in result["tasks"]] == [30, 60] and len(
        result["scores"]["joint (text)"]["R"][1]
    ) == 2
    kept = SeGPCL.load(tmp_path / "run/checkpoints/latest")
    assert kept.task_sizes == [5, 5]
    once = SeGPCL.load(tmp_path / "run/checkpoints/task-000")
    tasks = load_scenario(DataConfig(max_images_per_class=6, classes_per_task=5, order=1)).tasks
    images = [(image, label + 5 * n) for n, task in enumerate(tasks) for image, label in task.train]
    once.learn_task(images, [name for task in tasks for name in task.class_names])
    for name, tensor in once.backbone.adapter_state().items():
        torch.testing.assert_close(kept.backbone.adapter_state()[name], tensor)
    torch.testing.assert_close(kept.prototypes, once.prototypes)
    with pytest.raises(ValueError, match="training.joint takes the images of all tasks together: call forget, then"):
        kept.learn_task(images[:30], ["six", "seven", "eight", "nine", "ten"])
    kept.forget()
    kept.learn_task(images, [name for task in tasks for name in task.class_names])
    torch.testing.assert_close(kept.prototypes, once.prototypes)


@pytest.mark.slow
@pytest.mark.parametrize(("own", "counterpart"), [(0.0, "lda"), (0.5, "rda")])
def test_a_run_that_scores_by_covariance_prints_its_frozen_counterpart(own, counterpart, tmp_path):
    fast = ["--data.max_images_per_class=20", "--data.classes_per_task=5"]
    settings = ["--training.epochs=1", "--anchors.steps=1", f"--prototypes.own_covariance={own}"]
    for method, given in (("segp", settings), (counterpart, [])):
        where = [f"--run.directory={tmp_path}", f"--run.name={method}"]
        assert train.main([f"--method={method}", *fast, *given, *where]) == 0
    ours, frozen = (
        json.loads((tmp_path / name / "result.json").read_text())["scores"] for name in ("segp", counterpart)
    )
    assert list(ours)[:3] == ["zero-shot", "frozen prototypes", f"frozen {counterpart}"]
    same = ours[f"frozen {counterpart}"] | {"method": counterpart, "baseline": False}
    assert same == frozen[f"{counterpart} (visual)"] and same["R"] != ours["frozen prototypes"]["R"]
    assert list(frozen)[:3] == ["zero-shot", "frozen prototypes", f"{counterpart} (text)"]


@pytest.mark.slow
def test_the_probe_is_for_frozen_models_and_all_tasks(tmp_path):
    fast = ["--data.max_images_per_class=20", "--data.classes_per_task=5"]
    assert train.main(["--method=linear-probe", *fast, f"--run.directory={tmp_path}", "--run.name=run"]) == 0
    scores = json.loads((tmp_path / "run/result.json").read_text())["scores"]
    assert scores["linear-probe (visual)"]["last"] > scores["frozen prototypes"]["last"] - 0.05
    probe = PrototypesConfig(score="probe")
    with pytest.raises(ValueError, match="score probe is for a model that stays as it is"):
        check_parts(MethodConfig(prototypes=probe, training=TrainingConfig(joint=True)))
    with pytest.raises(ValueError, match="training.joint must be true; got false"):
        check_parts(MethodConfig(prototypes=probe, training=TrainingConfig(epochs=0)))


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


@pytest.mark.parametrize(
    "make_head",
    [
        lambda: Ridge(5, CPU, MethodConfig(seed=3, prototypes=PrototypesConfig(random_features=20))),
        lambda: gaussians(5, shrinkage=0.1),
        lambda: gaussians(5, own_covariance=0.3),
        lambda: gaussians(5, features="unit"),
    ],
)
def test_what_is_kept_gives_the_same_scores(make_head):
    feature, label = features()
    means = torch.stack([feature[label == c].mean(0) for c in range(6)])
    head, other = learnt(make_head(), feature, label, (3, 3)), make_head()
    other.restore(head.state())
    assert torch.equal(other.scores(feature, means, 1.0), head.scores(feature, means, 1.0))
    more, labels = features(seed=5, classes=2)
    both = [learnt(h, more, labels, (2,)) for h in (head, other)]
    wide = torch.cat([means, means[:2]])
    assert torch.equal(*(h.scores(more, wide, 1.0) for h in both))


def test_a_probe_kept_gives_the_same_scores():
    feature, label = features()
    head, other = learnt(LinearProbe(5, CPU, MethodConfig()), feature, label, (6,)), LinearProbe(5, CPU, MethodConfig())
    other.restore(head.state())
    assert head.scores(feature, feature, 1.0).std() > 0.1 and torch.equal(
        other.scores(feature, feature, 1.0), head.scores(feature, feature, 1.0)
    )


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


def test_seeds_of_adc_are_the_nearest_to_the_prototype():
    draw = torch.Generator().manual_seed(0)
    feature, prototypes = torch.randn(30, 4, generator=draw), torch.randn(3, 4, generator=draw)
    batches = ((i, feature[i]) for i in torch.arange(30).split(8))
    found = select_seeds(batches, prototypes, 5, by_distance=True)
    assert torch.equal(found, torch.cdist(prototypes, feature).topk(5, largest=False).indices)


def test_steps_of_adc_approach_the_prototype():
    backbone = tiny_backbone()
    draw = torch.Generator().manual_seed(0)
    seed = torch.rand(6, 3, backbone.image_size, backbone.image_size, generator=draw)
    with torch.no_grad():
        goal = backbone.encode_image(torch.rand(seed[:2].shape, generator=draw))[1]
    target = torch.arange(6) % 2
    teacher = Teacher(backbone, torch.zeros(2, backbone.embed_dim), goal)
    source = Adc(AnchorsConfig(kind="adc", steps=3, step_size=0.01))
    moved = source.move(teacher, seed, target, None)
    with torch.no_grad():
        before, after = ((backbone.encode_image(x)[1] - goal[target]).norm(dim=1) for x in (seed, moved))
    assert (after < before).all() and moved.min() >= 0 and moved.max() <= 1
    small = AnchorsConfig(kind="adc", steps=1, step_size=1e-4)
    first = Adc(small).move(teacher, seed, target, None)
    torch.testing.assert_close(
        (first - seed).square().mean(dim=(1, 2, 3)).sqrt(), torch.full((6,), 1e-4), rtol=0.05, atol=0
    )
    alone = source.move(teacher, seed[:1], target[:1], None)
    torch.testing.assert_close(alone, moved[:1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", ["sdc", "adc", "zscl", "ranpac", "lda"])
def test_two_tasks_of_every_method(tmp_path, method):
    make(tmp_path / "reference", {f"{part}/{c}": 6 for part in ("train", "test") for c in "xy"})
    make(tmp_path / "data", {f"{part}/{c}": 6 for part in ("train", "test") for c in ("red", "green", "blue", "cat")})
    tasks = load_scenario(DataConfig(root=str(tmp_path / "data"), classes_per_task=2, order=None)).tasks
    config = MethodConfig(
        method=method,
        lora=LoraConfig(rank=4),
        training=TrainingConfig(epochs=2, batch_size=4),
        anchors=AnchorsConfig(seeds_per_class=2, reference=str(tmp_path / "reference")),
        prototypes=PrototypesConfig(random_features=20),
    )
    learner = SeGPCL(tiny_backbone(), config)
    reports = [learner.learn_task(task.train, task.class_names) for task in tasks]
    frozen = method in ("ranpac", "lda")
    assert (learner.untransferred is not None) == (not frozen) and learner.prototypes.isfinite().all()
    if method == "zscl":
        assert reports[1].anchors == 4 and reports[1].losses["acgd"] > 0
    if method in ("sdc", "adc"):
        assert reports[1].anchors == {"sdc": 12, "adc": 24}[method]
    images = [tasks[0].test[0][0]]
    for path in ("text", "visual", "dual"):
        assert len(learner.predict(images, path=path)[0]) == 4
    if frozen:
        learner.backbone.pretrained = None
        twin = learner.copy()
        assert twin.predict(images, path="visual") == learner.predict(images, path="visual")
        learner.learn_task(tasks[0].train, ["w", "of"])
        assert len(twin.predict(images, path="visual", topk=9)[0]) == 4


def test_reference_images_are_needed_and_named(tmp_path):
    with pytest.raises(ValueError, match="anchors.reference must name images"):
        check_parts(with_method(MethodConfig(method="zscl")))
    with pytest.raises(ValueError, match="prototypes.score ridge is for a model that stays as it is"):
        check_parts(MethodConfig(prototypes=PrototypesConfig(score="ridge")))
    learner = SeGPCL(
        tiny_backbone(),
        MethodConfig(method="zscl", lora=LoraConfig(rank=4), anchors=AnchorsConfig(reference=str(tmp_path / "no"))),
    )
    with pytest.raises(ValueError, match="anchors.reference: .* cannot be used"):
        learner.source.images(None, learner.reader)


def test_reference_images_must_be_as_many_as_old_classes(tmp_path):
    make(tmp_path / "reference", {"train/x": 1, "test/x": 1})
    make(tmp_path / "data", {f"{part}/{c}": 6 for part in ("train", "test") for c in ("red", "green", "blue", "cat")})
    message = "anchors.reference must hold an image for each of 2 old classes at the least; got 1"
    given = [f"--data.root={tmp_path}/data", f"--anchors.reference={tmp_path}/reference", "--data.classes_per_task=2"]
    config = parse(["--method=zscl", "--model.name=glyph", *given])
    scenario = load_scenario(config.data)
    backbone = tiny_backbone()
    with pytest.raises(ValueError, match=message):  # before anything is learnt
        for attempt in attempts(config, scenario, backbone):
            attempt()
    learner = SeGPCL(backbone, config)
    learner.learn_task(scenario.tasks[0].train, scenario.tasks[0].class_names)
    with pytest.raises(ValueError, match=message):
        learner.learn_task(scenario.tasks[1].train, scenario.tasks[1].class_names)


@pytest.mark.slow
def test_every_method_says_what_it_is():
    for method in METHODS:
        assert parse([f"--method={method}", "--anchors.reference=digits"]).method == method


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
