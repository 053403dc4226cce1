"""The commands behind docs/evidence.md that read runs: their arithmetic by hand, and each of them on made runs."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from called import call
from made_results import made, write
from made_results import made_run as made_result
from run_here import runs_here
from scipy.spatial.distance import jensenshannon

import segp_ext
from evidence import (
    beta,
    gate_rates,
    gated,
    gates,
    geometry,
    hindsight,
    letters,
    made_sets,
    paired,
    runs,
    shares,
    unknown,
    updated,
)
from segp_ext import compare
from segp_ext.config import DataConfig
from segp_ext.data import load_scenario
from segp_ext.data.images import Images
from segp_ext.report.result import RunResult
from segp_ext.report.table import percent, signed
from segp_ext.run.command_line import parse
from segp_ext.run.rows import Row, read_rows

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _runs_here(monkeypatch):
    runs_here(monkeypatch)


ROWS = sorted(Path(runs.__file__).parent.glob("rows/*.yaml"))


@pytest.mark.parametrize("file", ROWS, ids=lambda file: file.stem)
def test_every_row_is_a_method_with_settings(file):
    scene_of = ["--config", str(file.parents[1] / "natural.yaml"), "--data.root=x"]
    given = [] if file.stem.startswith("digits") else [*scene_of, "--anchors.reference=x"]
    for row in read_rows(str(file)):
        parse([*given, *Row(row).arguments()], "compare")


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
            list(geometry.drifts(Row(method).folder(tmp_path, 1)))


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
    assert table[3][3] == "0.0 |" and table[2][3] != "0.0 |"  # 3 is its own

    call(paired.main, monkeypatch, tmp_path, "--rows", "lora", "rda", "--seeds", 1, "--out", tmp_path / "p.md")
    scores = {
        row: json.loads((tmp_path / f"runs/{row}-1/result.json").read_text())["scores"] for row in ("lora", "rda")
    }
    last = {"lora": scores["lora"]["lora (dual)"]["last"], "rda": scores["rda"]["rda (visual)"]["last"]}
    lines = (tmp_path / "p.md").read_text().splitlines()[2:]
    assert lines[2] == f"| lora | {100 * last['lora']:.1f} | – | – |"
    assert lines[3].startswith(f"| rda | {100 * last['rda']:.1f} | {signed(100 * (last['rda'] - last['lora']))} | ")
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


def test_letters_are_scans_like_the_digits():
    drawn = letters.scans(["A", "b"], 3)
    assert len(drawn) == 6 and all(scan.shape == (3, 8, 8) and scan.dtype == np.uint8 for scan in drawn)
    levels = np.round(np.arange(17) * 255 / 16)
    assert np.isin(np.stack(drawn), levels).all() and all((scan[0].max(axis=1) > 0).all() for scan in drawn)
    assert all(np.array_equal(a, b) for a, b in zip(drawn, letters.scans(["A", "b"], 3), strict=True))
    assert not np.array_equal(drawn[0], letters.scans(["A", "b"], 3, seed=1)[0])


def test_learners_are_asked_about_unknown_images_after_every_task(tmp_path, monkeypatch, capsys):
    row, fast = "rda calibration.fraction=0.2", ["--data.max_images_per_class=20", "--data.classes_per_task=5"]
    given = ["--methods", row, "rda", "--seeds", "1", f"--out={tmp_path}", "--run.keep_checkpoints=null"]
    assert compare.main([*given, *fast]) == 0
    monkeypatch.setattr(unknown, "CAPITALS", ("A", "X"))
    monkeypatch.setattr(unknown, "SMALL", ("b",))
    call(unknown.main, monkeypatch, tmp_path, "--rows", row, "--seeds", 1, "--letters", "--out", tmp_path / "u")
    scores, rates, errors = ((tmp_path / f"u/{name}.md").read_text() for name in ("scores", "rates", "calibration"))
    assert scores.count("relative Mahalanobis, trained") == 1 and scores.splitlines()[4].startswith(
        f"| {row} | relative"
    )
    assert [line.split(" | ")[1] for line in rates.splitlines()[4:]] == ["1", "2"] and rates.splitlines()[5].count(
        "–"
    ) == 1
    assert len(errors.splitlines()) == 4 + 3 * 2
    with pytest.raises(SystemExit):
        call(unknown.main, monkeypatch, tmp_path, "--rows", "rda", "--seeds", 1, "--out", tmp_path / "u")
    assert "held no images back" in capsys.readouterr().err


def test_rules_for_the_share_of_auto_are_compared(tmp_path, monkeypatch):
    fast = ["--data.max_images_per_class=15", "--data.classes_per_task=5", "--training.epochs=1"]
    given = ["--methods", "auto", "--seeds", "1", f"--out={tmp_path}", "--run.keep_checkpoints=null"]
    assert compare.main([*given, *fast]) == 0
    call(shares.main, monkeypatch, tmp_path, "--rows", "auto", "--seeds", 1, "--out", tmp_path / "s.md")
    found = {line.split(" | ")[1]: line.split(" | ")[2:] for line in (tmp_path / "s.md").read_text().splitlines()[4:]}
    result = RunResult.read(Row("auto").folder(tmp_path, 1) / "result.json")
    for rule, path in (("as shipped", "auto"), ("always 1", "dual")):
        assert found[rule][1].rstrip(" |") == percent(result.row(path).scores.pooled[-1]), found
    assert {*found} == {"as shipped", "least loss", "posterior mean", "always 0", "always 0.5", "always 1"}


def test_the_rules_take_the_share_that_they_say():
    losses = {0.0: torch.ones(4, dtype=torch.float64), 0.5: torch.zeros(4).double(), 1.0: torch.ones(4).double()}
    assert shares.least_loss(losses) == 0.5
    even = {share: torch.ones(4, dtype=torch.float64) for share in (0.0, 0.5, 1.0)}
    assert shares.posterior_mean(even) == pytest.approx(0.5)
    even[1.0] = even[1.0] - torch.tensor(math.log(2.0) / 4)  # twice as likely
    assert shares.posterior_mean(even) == pytest.approx((0 + 0.5 + 2) / 4)


def made_stream_run(folder, gains):
    """A run on three data sets whose accuracies in both settings are known; `gains` add to the last rows."""
    result = made_result(3, 1, seed=int(folder.name.rpartition("-")[2]))
    result.protocol["sources"] = ["a", "b", "c"]
    rows = [[0.1, 0.2, 0.3], [0.9, 0.2, 0.3], [0.8, 0.6, 0.3 - gains], [0.8, 0.6, 0.7 + gains]]
    result.row("dual").scores.whole = {"global": [[v / 2 for v in row] for row in rows], "task-known": rows}
    write(folder, result)


def test_tables_of_streams(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(runs, "scenario_of", lambda run: None)
    for seed, gains in ((1, 0.0), (2, 0.1)):
        made_stream_run(tmp_path / f"runs/segp-{seed}", gains)
    given = (tmp_path, "--rows", "segp", "--seeds", "1", "2", "--out", tmp_path / "table.md")
    call(gated.main, monkeypatch, *map(str, given))
    # global: 0.3 / 2; (0.3, 0.2) / 2; (0.8 + 0.6) / 4. task-known: twice as much
    assert (
        "| segp | 2 | 15.0 ± 0.0 | 12.5 ± 3.5 | 35.0 ± 0.0 | 30.0 ± 0.0 | 25.0 ± 7.1 | 70.0 ± 0.0 |"
        in capsys.readouterr().out
    )
    call(updated.main, monkeypatch, *map(str, given))
    found = capsys.readouterr().out
    assert "| segp | the first look | 90.0 ± 0.0 | 20.0 ± 0.0 | 30.0 ± 0.0 |" in found
    assert "| segp | all looks | 80.0 ± 0.0 | 60.0 ± 0.0 | 75.0 ± 7.1 |" in found


def test_made_sets_are_as_said(tmp_path, monkeypatch):
    call(made_sets.main, monkeypatch, str(tmp_path))
    looks = [load_scenario(DataConfig(root=str(tmp_path / look))) for look in made_sets.LOOKS]
    assert sum(len(task.train) for look in looks for task in look.tasks) == 1257  # each training image in one look
    assert {sum(len(task.test) for task in look.tasks) for look in looks} == {540}
    letters = load_scenario(DataConfig(root=str(tmp_path / "letters")))
    assert letters.class_names and sorted(letters.class_names) == sorted(made_sets.LETTERS)


def test_the_table_of_rates(tmp_path, monkeypatch, capsys):
    rows = [(0.7, 0.5), *((0.6 + 0.01 * place, 0.9) for place in range(len(gate_rates.RATES)))]
    monkeypatch.setattr(gate_rates, "accuracies", lambda data, seed: [(a, b + 0.1 * seed) for a, b in rows])
    call(gate_rates.main, monkeypatch, "--data", "x", "--seeds", "0", "1", "--out", str(tmp_path / "table.md"))
    said = capsys.readouterr().out
    assert "| zero-shot | 2 | 70.0 ± 0.0 | 55.0 ± 7.1 |" in said and "| no gate | 2 | 60.0 ± 0.0 | 95.0 ± 7.1 |" in said
    assert "| 0.05 | 2 | 61.0 ± 0.0 |" in said and "| 1e-06 | 2 | 65.0 ± 0.0 |" in said
