"""The commands behind docs/evidence.md: their arithmetic by hand, and each of them on made data."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from made_results import made, write
from PIL import Image
from run_here import runs_here
from scipy.spatial.distance import jensenshannon

import segp_ext
from evidence import beta, gates, geometry, hindsight, looks, paired, pretrain, runs, scene
from segp_ext import compare
from segp_ext.data.images import Images
from segp_ext.run.command_line import parse

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _runs_here(monkeypatch):
    runs_here(monkeypatch)


NAMES = {"n1": ["dog"], "n2": ["cat", "kitten"], "n3": ["red bus"], "n4": ["tree"]}


@pytest.fixture(scope="module")
def tiny_imagenet(tmp_path_factory):
    """Tiny-ImageNet's layout: each class's images are of one colour and some noise."""
    root, draw = tmp_path_factory.mktemp("tin"), np.random.RandomState(0)
    (root / "val/images").mkdir(parents=True)
    rows = []
    for colour, wnid in zip((40, 100, 160, 220), NAMES, strict=True):
        (root / f"train/{wnid}/images").mkdir(parents=True)
        for number in range(9):
            image = Image.fromarray(np.uint8(colour + draw.randint(-15, 16, (32, 32, 3))))
            if number < 6:
                image.save(root / f"train/{wnid}/images/{wnid}_{number}.JPEG")
            else:
                image.save(root / f"val/images/val_{wnid}_{number}.JPEG")
                rows.append(f"val_{wnid}_{number}.JPEG\t{wnid}\t0\t0\t1\t1\n")
    (root / "val/val_annotations.txt").write_text("".join(rows))
    (root / "names.json").write_text(json.dumps(NAMES))
    return root


ROWS = sorted(Path(runs.__file__).parent.glob("rows/*.yaml"))


@pytest.mark.parametrize("file", ROWS, ids=lambda file: file.stem)
def test_every_row_is_a_method_with_settings(file):
    scene_of = ["--config", str(file.parents[1] / "natural.yaml"), "--data.root=x"]
    given = [] if file.stem.startswith("digits") else [*scene_of, "--anchors.reference=x"]
    for row in compare.read_rows(str(file)):
        parse([*given, *compare.Row(row).arguments()], "compare")


def call(main, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
    return main()


@pytest.fixture(scope="module")
def model(tiny_imagenet, tmp_path_factory):
    """What pre-training writes, stopped once on the way."""
    out = tmp_path_factory.mktemp("pretrained") / "model"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrain, "HELD_OUT", 3)
        given = ["--data", tiny_imagenet, "--names", tiny_imagenet / "names.json", "--out", out, "--batch_size", 6]
        given += ["--epochs", 3, "--threads", torch.get_num_threads(), "--device", "cpu"]
        call(pretrain.main, patch, *given, "--minutes", 0)
        stopped = json.loads((out / "pretrain.json").read_text())
        call(pretrain.main, patch, *given)
    return out, stopped


def test_pretraining_stops_goes_on_and_writes_a_model_that_loads(model):
    out, stopped = model
    report = json.loads((out / "pretrain.json").read_text())
    assert (stopped["epochs"], report["epochs"], report["of"]) == (0, 3, 3) and len(report["losses"]) == 3
    assert report["zero-shot by class, scene"].keys() == NAMES.keys()
    mean = sum(report["zero-shot by class, scene"].values()) / 4
    assert report["zero-shot over all classes"]["scene"] == pytest.approx(mean, abs=1e-3)
    backbone = segp_ext.load_clip(f"local-dir:{out}")
    embedding, feature = backbone.encode_image(torch.rand(2, 3, 32, 32))
    assert embedding.shape == (2, 128) and feature.shape == (2, 512)


def test_pretraining_goes_on_with_its_own_options_alone(model, tiny_imagenet, monkeypatch, capsys):
    monkeypatch.setattr(pretrain, "HELD_OUT", 3)
    given = ["--data", tiny_imagenet, "--names", tiny_imagenet / "names.json", "--out", model[0], "--batch_size", 6]
    with pytest.raises(SystemExit):
        call(pretrain.main, monkeypatch, *given, "--epochs", 5, "--device", "cpu")
    assert "it was begun with --epochs 3; got 5" in capsys.readouterr().err


def test_the_held_out_images_are_never_trained_on(tiny_imagenet, monkeypatch):
    monkeypatch.setattr(pretrain, "HELD_OUT", 2)
    seen, labels = pretrain.images(tiny_imagenet, sorted(NAMES), "train")
    held, _ = pretrain.images(tiny_imagenet, sorted(NAMES), "scene")
    assert len(seen) == 16 and len(held) == 8 and labels.bincount().tolist() == [4] * 4
    assert not any((a == b).all() for a in seen for b in held)


def test_a_scene_takes_the_classes_that_the_model_knows(tiny_imagenet, model, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain, "HELD_OUT", 3)
    knows = tmp_path / "model"
    knows.mkdir()
    by_class = {"n1": 0.1, "n2": 0.9, "n3": 0.8, "n4": 0.2}
    (knows / "pretrain.json").write_text(json.dumps({"zero-shot by class, scene": by_class}))
    given = [
        "--data",
        tiny_imagenet,
        "--names",
        tiny_imagenet / "names.json",
        "--model",
        knows,
        "--seed",
        3,
        "--known",
        2,
    ]
    call(scene.main, monkeypatch, *given, "--tasks", 2, "--classes", 1, "--images", 2, "--out", tmp_path / "out")
    facts = json.loads((tmp_path / "out/scene.json").read_text())
    assert sorted(facts["classes"]) == ["cat", "red bus"] and len(set(facts["looks"])) == 2
    assert (tmp_path / "out/scene/order.txt").read_text().split("\n")[:2] == facts["classes"]
    for place, classes in (
        ("scene", {"cat", "red bus"}),
        ("clean", {"cat", "red bus"}),
        ("untouched", {"dog", "tree"}),
    ):
        for part in ("train", "test"):
            assert {path.name for path in (tmp_path / "out" / place / part).iterdir()} == classes
    for own, look in zip(facts["classes"], facts["looks"], strict=True):
        assert len(list((tmp_path / f"out/scene/train/{own}").iterdir())) == 2
        clean, made = (Image.open(tmp_path / f"out/{place}/test/{own}/0001.png") for place in ("clean", "scene"))
        assert (np.asarray(scene.LOOKS[look](clean)) == np.asarray(made)).all()


@pytest.mark.parametrize("name", looks.LOOKS | looks.OTHERS)
def test_every_look_changes_an_image_and_keeps_its_kind(name):
    look = (looks.LOOKS | looks.OTHERS)[name]
    image = Image.fromarray(np.random.RandomState(1).randint(0, 256, (32, 32, 3), np.uint8))
    made = look(image)
    assert made.size == (32, 32) and made.mode == "RGB" and (np.asarray(made) != np.asarray(image)).any()
    assert (np.asarray(look(image)) == np.asarray(made)).all()


def test_the_search_for_looks_starts_anew_with_each(tiny_imagenet, model, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain, "HELD_OUT", 4)
    monkeypatch.setattr(looks, "HELD_OUT", 4)
    twice = {"noisy": looks.LOOKS["noisy"], "noisy again": looks.LOOKS["noisy"]}
    monkeypatch.setattr(looks, "LOOKS", {"noisy": twice["noisy"]})
    monkeypatch.setattr(looks, "OTHERS", {"noisy again": twice["noisy again"], "inverted": looks.OTHERS["inverted"]})
    given = ["--data", tiny_imagenet, "--names", tiny_imagenet / "names.json", "--model", model[0], "--known", 3]
    given += ["--classes", 2, "--epochs", 2, "--batch_size", 4, "--threads", torch.get_num_threads()]
    call(looks.main, monkeypatch, *given, "--out", tmp_path / "looks.md")
    rows = {
        cells[1].strip(): cells[2:-1]
        for line in (tmp_path / "looks.md").read_text().splitlines()[4:]
        if (cells := line.split("|"))
    }
    assert rows.keys() == {"noisy", "noisy again", "inverted"} and rows["noisy"][1:] == rows["noisy again"][1:]
    assert rows["noisy"][0].strip() == "yes" and not rows["inverted"][0].strip()
    for _, zero_shot, probe, trained, gain in rows.values():
        assert float(gain) == pytest.approx(float(trained) - float(probe), abs=0.11) and 0 <= float(zero_shot) <= 100
    gains = [float(cells[-1]) for cells in rows.values()]
    assert gains == sorted(gains, reverse=True)


def made_run(folder, method, last, forgetting, clean):
    seed = int(folder.name.rpartition("-")[2])
    result = made(last, forgetting, method=method, seed=seed, retention={"SCENES/1/clean": [clean, 0.1, 0.1]})
    result.row("text").scores.pooled[1] = last - 0.1
    write(folder, result)


@pytest.mark.parametrize(
    ("joint", "forgetting", "clean", "failed"),
    [(0.59, 0.16, 0.56, 0), (0.575, 0.16, 0.56, 1), (0.59, 0.14, 0.56, 1), (0.59, 0.16, 0.54, 1)],
)
def test_each_gate_can_fail(joint, forgetting, clean, failed, tmp_path, monkeypatch, capsys):
    made_run(tmp_path / "runs/probe-1", "linear-probe", 0.5, 0.0, clean)
    made_run(tmp_path / "runs/joint-1", "joint", joint, 0.0, clean)
    made_run(tmp_path / "runs/lora-1", "lora", 0.3, forgetting, clean)
    assert call(gates.main, monkeypatch, tmp_path) == failed
    said = capsys.readouterr().out
    assert said.count("FAILED") == failed and f"at least 8: {100 * (joint - 0.5):.1f}" in said


def test_gates_take_no_mean_over_rows_with_different_settings(tmp_path, monkeypatch, capsys):
    for row, forgetting in (("lora", 0.2), ("lora-lora.rank=8", 0.1)):
        made_run(tmp_path / f"runs/{row}-1", "lora", 0.5, forgetting, 0.6)
    made_run(tmp_path / "runs/linear-probe-1", "linear-probe", 0.5, 0.2, 0.6)
    made_run(tmp_path / "runs/joint-lora.rank=8-1", "joint", 0.6, 0.2, 0.6)
    assert call(gates.main, monkeypatch, tmp_path) == 0
    assert "at least 15: 20.0 (20.0)" in capsys.readouterr().out
    made_run(tmp_path / "runs/joint-lora.rank=9-1", "joint", 0.9, 0.2, 0.6)
    with pytest.raises(SystemExit):
        call(gates.main, monkeypatch, tmp_path)
    assert "several rows of joint (joint-lora.rank=8, joint-lora.rank=9)" in capsys.readouterr().err


def test_gates_pair_seeds(tmp_path, monkeypatch, capsys):
    for method, seeds in (("linear-probe", (1, 2)), ("joint", (2, 3)), ("lora", (1, 2))):
        for seed in seeds:
            made_run(tmp_path / f"runs/{method}-{seed}", method, 0.5, 0.2, 0.6)
    with pytest.raises(SystemExit):
        call(gates.main, monkeypatch, tmp_path)
    assert "not the same seeds of each method" in capsys.readouterr().err
    (tmp_path / "runs/joint-3/result.json").write_text("{")
    with pytest.raises(SystemExit):
        call(gates.main, monkeypatch, tmp_path)
    assert "joint-3/result.json is damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--tasks", 7], "--tasks must be from 1 to 6; got 7"),
        (["--tasks", 2, "--classes", 2, "--known", 3], "must be at most --known, 3; got 4"),
        (["--tasks", 1], "must be a new or an empty folder"),
    ],
)
def test_a_scene_that_cannot_be_is_refused(more, message, tmp_path, monkeypatch, capsys):
    (tmp_path / "there").touch()
    given = ["--data", tmp_path, "--names", tmp_path, "--model", tmp_path, "--seed", 1, "--out", tmp_path]
    with pytest.raises(SystemExit):
        call(scene.main, monkeypatch, *given, *more)
    assert message in capsys.readouterr().err


def test_the_divergence_by_hand():
    p = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.25, 0.75]], dtype=torch.float64)
    q = torch.tensor([[0.0, 1.0], [0.5, 0.5], [0.75, 0.25]], dtype=torch.float64)
    # Third row: the middle is (1/2, 1/2), 1 - H(1/4) = 1 - 0.811278 bits.
    assert geometry.divergence(p, q).tolist() == pytest.approx([1.0, 0.0, 0.188722], abs=1e-6)


def test_core_is_sure_and_boundary_is_not():
    p = torch.tensor([[0.9, 0.1], [0.5, 0.5], [0.3, 0.7], [0.05, 0.95], [0.6, 0.4], [0.2, 0.8]])
    found = geometry.regions(p)
    assert sorted(found["core"].tolist()) == [0, 3] and sorted(found["boundary"].tolist()) == [1, 4]


def test_the_geometry_of_a_comparison(tmp_path, monkeypatch):
    fast = [
        "--training.epochs=1",
        "--data.max_images_per_class=6",
        "--data.classes_per_task=5",
        "--anchors.seeds_per_class=2",
    ]
    rows = ["--methods", "segp", "lora training.classes=new", "--seeds", "1", "2", f"--out={tmp_path}", *fast]
    assert compare.main([*rows, "--anchors.steps=1", "--run.keep_checkpoints=null"]) == 0
    call(
        geometry.main,
        monkeypatch,
        tmp_path,
        "--rows",
        "segp",
        "lora training.classes=new",
        "--seeds",
        1,
        2,
        "--out",
        tmp_path / "g",
    )
    lines = (tmp_path / "g/geometry.csv").read_text().splitlines()[1:]
    assert len(lines) == 2 * 2 * 1 * 2 and all(0 <= float(line.split(",")[-1]) <= 1 for line in lines)
    assert (tmp_path / "g/geometry.png").stat().st_size > 5000
    assert "| lora training.classes=new | core |" in (tmp_path / "g/geometry.md").read_text()

    found = {tuple(line.split(",")[:4]): float(line.split(",")[-1]) for line in lines}
    run = tmp_path / "runs/segp-2"
    _, scenario = runs.scenario_of(run)
    p, q = (text_probabilities(run / f"checkpoints/task-00{n}", scenario.tasks[0].test, 5) for n in (1, 2))
    apart = jensenshannon(p, q, base=2, axis=1) ** 2
    order = (np.sort(p, axis=1)[:, -1] - np.sort(p, axis=1)[:, -2]).argsort(kind="stable")
    third = len(p) // 3
    assert found["segp", "2", "2", "boundary"] == pytest.approx(apart[order[:third]].mean(), abs=2e-6)
    assert found["segp", "2", "2", "core"] == pytest.approx(apart[order[-third:]].mean(), abs=2e-6)
    assert found["segp", "2", "2", "boundary"] > 1e-5


def text_probabilities(checkpoint, data, classes):
    learner = segp_ext.SeGPCL.load(checkpoint)
    images = Images(data, learner.reader)
    scores = [learner.scores(v, z, "text") for _, v, z in learner.encode(images)]
    return torch.cat(scores)[:, :classes].double().softmax(dim=1).numpy()


def test_a_drift_needs_two_tasks_and_two_old_classes(tmp_path):
    fast = ["--training.epochs=1", "--data.max_images_per_class=4", "--run.keep_checkpoints=null"]
    for classes, sizes in (("10", r"\[10\]"), ("1", r"\[1, 1, 1")):
        method = f"lora data.classes_per_task={classes}"
        assert compare.main(["--methods", method, "--seeds", "1", f"--out={tmp_path}", *fast]) == 0
        with pytest.raises(ValueError, match=f"must have two tasks, and two classes in the first; it has {sizes}"):
            list(geometry.drifts(compare.Row(method).folder(tmp_path, 1)))


def test_checkpoints_that_were_not_kept_are_asked_for(tmp_path):
    fast = [
        "--training.epochs=1",
        "--data.max_images_per_class=4",
        "--data.classes_per_task=5",
        "--run.keep_checkpoints=1",
    ]
    assert compare.main(["--methods", "lora", "--seeds", "1", f"--out={tmp_path}", *fast]) == 0
    with pytest.raises(FileNotFoundError, match="run.keep_checkpoints null"):
        list(geometry.drifts(tmp_path / "runs/lora-1"))


def test_hindsight_measures_what_the_transfer_loses(tmp_path, monkeypatch):
    fast = ["--training.epochs=2", "--data.max_images_per_class=12", "--data.classes_per_task=5"]
    fast += ["--training.learning_rate=3e-2"]
    assert compare.main(["--methods", "lora", "rda", "--seeds", "1", f"--out={tmp_path}", *fast]) == 0
    call(hindsight.main, monkeypatch, tmp_path, "--rows", "lora", "rda", "--seeds", 1, "--out", tmp_path / "h.md")
    found = {}
    for method in ("lora", "rda"):
        result = json.loads((tmp_path / f"runs/{method}-1/result.json").read_text())
        found[method] = hindsight.accuracies(tmp_path / f"runs/{method}-1")
        assert found[method][0] == pytest.approx(result["scores"][f"{method} (visual)"]["last"])
    ended, _, anew = found["lora"]
    assert anew > ended + 0.05
    assert len({*found["rda"]}) == 1  # a frozen model moves nothing
    assert f"| lora | as the run ended | {100 * ended:.1f} | – |" in (tmp_path / "h.md").read_text()

    given = ["--rows", "lora", "--seeds", 1, "--betas", 0, 3, 1e6]
    call(beta.main, monkeypatch, tmp_path, *given, "--out", tmp_path / "b.md")
    ends = [
        json.loads((tmp_path / "runs/lora-1/result.json").read_text())["scores"][f"lora ({p})"]["last"]
        for p in ("text", "visual")
    ]
    made_by, _, *lines = (tmp_path / "b.md").read_text().splitlines()
    assert (
        made_by
        == f"`python -m evidence.beta {tmp_path} --rows lora --seeds 1 --betas 0 3 1000000.0 --out {tmp_path}/b.md`"
    )
    table = [line.split(" | ") for line in lines]
    assert [table[2][2], table[4][2]] == [f"{100 * last:.1f}" for last in ends]
    assert table[3][3] == "+0.0 |" and table[2][3] != "+0.0 |"  # 3 is its own

    call(paired.main, monkeypatch, tmp_path, "--rows", "lora", "rda", "--seeds", 1, "--out", tmp_path / "p.md")
    scores = {
        row: json.loads((tmp_path / f"runs/{row}-1/result.json").read_text())["scores"] for row in ("lora", "rda")
    }
    last = {"lora": scores["lora"]["lora (dual)"]["last"], "rda": scores["rda"]["rda (visual)"]["last"]}
    lines = (tmp_path / "p.md").read_text().splitlines()[2:]
    assert lines[2] == f"| lora | {100 * last['lora']:.1f} | – | – |"
    assert lines[3].startswith(f"| rda | {100 * last['rda']:.1f} | {100 * (last['rda'] - last['lora']):+.1f} | ")
    assert sum(map(len, paired.hits(tmp_path / "runs/lora-1").values())) == 120


def test_a_difference_over_images_counts_an_image_once_in_all_orders():
    first = [{"a": [True], "b": [False], "c": [False]}, {"a": [True], "b": [False], "c": [True]}]
    second = [{"a": [True], "b": [True], "c": [True]}, {"a": [True], "b": [False], "c": [True]}]
    apart = paired.difference(second, first)  # 0, 1/2, 1/2
    assert apart.mean == pytest.approx(1 / 3)
    assert apart.half == pytest.approx(4.302653 * (1 / 12) ** 0.5 / 3**0.5, rel=1e-5)
    with pytest.raises(ValueError, match="its runs were not all tested on the same images"):
        paired.difference(second, [{"a": [True]}, {"a": [True]}])


def test_hindsight_needs_covariances(tmp_path):
    fast = ["--data.max_images_per_class=4", "--data.classes_per_task=5", "--prototypes.score=cosine"]
    assert compare.main(["--methods", "frozen-prototypes", "--seeds", "1", f"--out={tmp_path}", *fast]) == 0
    with pytest.raises(ValueError, match="prototypes.score cosine; mahalanobis is needed"):
        hindsight.accuracies(tmp_path / "runs/frozen-prototypes-1")


def test_a_run_that_did_not_end_is_not_asked(tmp_path, monkeypatch, capsys):
    fast = ["--data.max_images_per_class=4", "--data.classes_per_task=5"]
    assert compare.main(["--methods", "rda", "--seeds", "1", f"--out={tmp_path}", *fast]) == 0
    run = tmp_path / "runs/rda-1"
    learner, scenario = runs.opened(run)
    assert list(learner.class_names) == scenario.class_names
    file = run / "result.json"
    result = json.loads(file.read_text())
    given = [tmp_path, "--rows", "rda", "--out", tmp_path / "new/p.md"]
    call(paired.main, monkeypatch, *given, "--seeds", 1)
    assert (tmp_path / "new/p.md").is_file()
    for changed, message in (
        ({"status": "interrupted"}, "must be a finished run; it is interrupted"),
        (
            {"protocol": {**result["protocol"], "split_hash": "other"}},
            "was learnt from other images than digits holds now",
        ),
    ):
        file.write_text(json.dumps(result | changed))
        with pytest.raises(SystemExit):
            call(paired.main, monkeypatch, *given, "--seeds", 1)
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit):
        call(paired.main, monkeypatch, *given, "--seeds", 1, 1)
    assert "--seeds must hold each of them once; got 1 1" in capsys.readouterr().err


@pytest.mark.parametrize("command", [beta, geometry, hindsight, paired])
def test_a_run_that_is_not_there_is_named(command, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        call(command.main, monkeypatch, tmp_path, "--rows", "lara", "--seeds", 1, "--out", tmp_path / "out")
    assert "error: lara" in capsys.readouterr().err
