"""Runs on streams of data sets: every setting of evaluation, resuming, known classes in new looks, all images at once, the doctor."""

import json

import numpy as np
import pytest
from PIL import Image
from public_trees import COUNTS, eleven_trees, torchvision_tree
from small_run import FAST

from segp_ext import doctor, train
from segp_ext.data import load_scenario
from segp_ext.data.wordings import clip_lists
from segp_ext.report.result import RunResult
from segp_ext.run.command_line import parse
from segp_ext.run.examination import examine
from segp_ext.run.run import Run, run_config

SOURCES = "--data.sources=[{name: digits, title: a, tasks: [4], classes_per_task: 3}, {name: digits, title: b}, {root: shapes}]"


def shapes(root, looks=("shapes",)):
    """Writes folders of images of three classes, each a bright square in another corner; every look has another background."""
    for number, look in enumerate(looks):
        for part, count in (("train", 6), ("test", 4)):
            for place, name in enumerate(("left", "right", "below")):
                folder = root / look / part / name
                folder.mkdir(parents=True)
                for index in range(count):
                    pixels = np.full((16, 16, 3), 60 * number, np.uint8)
                    corner = [(0, 0), (0, 9), (9, 4)][place]
                    pixels[corner[0] : corner[0] + 6, corner[1] + index % 2 : corner[1] + 6] = 255 - 50 * number
                    pixels[15, index if part == "train" else 15 - index] += 9  # no two images are alike
                    Image.fromarray(pixels).save(folder / f"{index}.png")
    return root


def settings(tmp_path, *more):
    run = [f"--run.directory={tmp_path / 'runs'}", "--run.name=run", f"--data.root={shapes(tmp_path / 'data')}"]
    return [*FAST, "--config=digits", *run, "--data.setting=task-known", "--calibration.fraction=0.3", *more]


def by_hand(rows):
    """Transfer, Avg and Last of MTIL's definition, from rows that begin before the first task."""
    after = np.array(rows[1:])
    transfer = np.mean([np.mean([after[j][i] for j in range(i)]) for i in range(1, len(after))])
    return {"transfer": transfer, "avg": after.mean(), "last": after[-1].mean()}


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    """The folder of a finished run on a stream, and what it printed."""
    folder = tmp_path_factory.mktemp("stream")
    assert train.main(settings(folder, SOURCES)) == 0
    return folder / "runs/run"


def test_every_setting_is_measured_and_its_metrics_are_mtils(stream):
    found = json.loads((stream / "result.json").read_text())
    assert found["protocol"]["sources"] == ["a", "a", "a", "b", "shapes"]
    assert [len(names) for names in found["protocol"]["tasks"]] == [4, 3, 3, 10, 3]
    assert found["protocol"]["setting"] == "task-known" and found["protocol"]["id"].startswith(
        "a+b+shapes-1x4+2x3+1x10+1x3-glyph-"
    )
    for name in ("segp (text)", "segp (dual)", "zero-shot", "frozen rda"):
        for setting, numbers in found["scores"][name]["settings"].items():
            rows = numbers["R"]
            assert [len(row) for row in rows] == [5] * 6
            expected = by_hand(rows)
            assert {key: numbers[key] for key in expected} == pytest.approx(expected), (name, setting)
    text = found["scores"]["segp (text)"]
    assert text["settings"]["global"]["R"] == text["global_R"]
    known = found["scores"]["segp (dual)"]["settings"]["task-known"]["R"]
    for task, follows in enumerate(text["next_task"][:-1], start=1):
        assert known[task][task] == follows  # before it is learnt, a task is scored by text alone
    zero_shot = found["scores"]["zero-shot"]["settings"]["task-known"]["R"]
    assert zero_shot == [zero_shot[0]] * 6 == [known[0]] * 6


def test_names_that_two_sources_share_are_told_apart(stream):
    found = json.loads((stream / "result.json").read_text())
    assert found["class_names"][:4] == found["protocol"]["tasks"][0] == ["a/0", "a/1", "a/2", "a/3"]
    assert found["protocol"]["prompts"]["b/7"] == ["a photo of the digit 7."]
    assert found["class_names"][-3:] == ["below", "left", "right"]


def test_pages_and_terminal_lead_with_the_setting(stream, capsys):
    page, summary = (stream / "report.html").read_text(), (stream / "summary.md").read_text()
    for made in (page, summary):
        assert (
            made.index("Every data set, task-known")
            < made.index("Every data set, global")
            < made.index("Accuracy over seen classes")
        )
        assert "Transfer" in made
    assert {"task-known.png", "global.png"} <= {file.name for file in (stream / "plots").iterdir()}
    again = parse([f"--config={stream / 'config.yaml'}"])
    run_config(again, stream)  # a finished run says what it found
    result = RunResult.read(stream / "result.json")
    from segp_ext.report.terminal import run_text

    written = run_text(result)
    assert written.startswith("Task-known: accuracy in percent") and max(map(len, written.splitlines())) <= 80


def test_a_stream_goes_on_after_a_stop(stream, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    original = json.loads((stream / "result.json").read_text())
    config = parse([f"--config={stream / 'config.yaml'}", f"--run.directory={tmp_path}"])
    save, saved = Run._save, []

    def stops(self, learner):
        save(self, learner)
        saved.append(len(learner.task_sizes))
        if saved[-1] == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Run, "_save", stops)
        run_config(config)
    result = run_config(parse([f"--config={folder / 'config.yaml'}"]), folder)
    assert json.loads(result.to_json())["scores"] == original["scores"] and result.resumed[0].after == 3


@pytest.mark.parametrize("known", ["update", "train"])
def test_one_class_in_new_looks(known, tmp_path):
    looks = ("plain", "grey", "light")
    shapes(tmp_path, looks)
    sources = f"--data.sources=[{', '.join(f'{{root: {look}}}' for look in looks)}]"
    more = ["--training.classes=seen"] if known == "train" else []
    config = parse(
        [
            *FAST,
            f"--data.root={tmp_path}",
            "--config=digits",
            f"--run.directory={tmp_path}",
            "--run.name=run",
            sources,
            "--data.shared_names=same",
            f"--known_classes={known}",
            *more,
        ]
    )
    result = run_config(config)
    assert [task.classes for task in result.tasks] == [["below", "left", "right"], [], []]
    assert result.class_names == ["below", "left", "right"]
    dual = result.row("dual").scores
    assert [len(row) for row in dual.matrix] == [1, 2, 3] and [len(row) for row in dual.whole["global"]] == [3] * 4
    assert sum(count for *_, count in dual.confusion) == 36
    assert [task.steps > 0 for task in result.tasks] == [True, known == "train", known == "train"]


def test_all_images_at_once_of_a_stream(tmp_path):
    config = parse(settings(tmp_path, SOURCES, "--method=joint"))
    result = run_config(config)
    assert [len(task.classes) for task in result.tasks] == [4, 7, 10, 20, 23]
    assert [len(row) for row in result.row("text").scores.matrix] == [1, 2, 3, 4, 5]


def test_a_gate_is_the_methods_own(tmp_path):
    """Method auto holds images back itself, and baselines have no gate."""
    fast = [*FAST, "--config=digits", f"--run.directory={tmp_path}", "--method=auto"]
    gate, none = (run_config(parse([*fast, *more])) for more in (["--inference.gate=0.5"], []))
    assert [row.scores for row in gate.scores if row.is_baseline] == [
        row.scores for row in none.scores if row.is_baseline
    ]
    assert gate.row("dual").scores.matrix == none.row("dual").scores.matrix
    assert gate.row("dual").scores.whole != none.row("dual").scores.whole


def test_the_doctor_looks_at_every_source(tmp_path, capsys):
    torchvision_tree(shapes(tmp_path), "dtd")
    sources = "--data.sources=[{root: shapes}, {name: dtd}, {name: eurosat}, {name: digits, shots: 500}]"
    assert doctor.main([f"--data.root={tmp_path}", sources, "--quick"]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "data sets 4 in a stream" in said and "name shapes" in said and "name dtd" in said
    assert "2 problem(s)" in said and "data.sources, number 3 (eurosat): data.root: no complete EuroSAT" in said
    assert "Download: images and their lists from" in said
    assert "data.sources, number 4 (digits): data.shots is 500" in said
    assert (
        doctor.main([f"--data.root={tmp_path}", "--data.sources=[{root: shapes}, {name: digits}]", "--config=digits"])
        == 0
    )
    assert "No problems found." in capsys.readouterr().out


@pytest.fixture(scope="module")
def eleven(tmp_path_factory):
    """All data sets of MTIL, made, with 1,201 classes."""
    root = tmp_path_factory.mktemp("eleven")
    eleven_trees(root)
    return root


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mtil-order1", "mtil-order2"])
def test_mtil_could_begin(name, eleven, capsys):
    """On made images with CLIP ViT-B/16 and random weights: every data set is read, every prompt fits, and a run could begin."""
    config = parse(["--protocol", name, f"--data.root={eleven}", "--model.pretrained=null"])
    report = examine(config)
    problems = [
        problem for problem in report.problems if "training images as well" not in problem
    ]  # made images repeat
    assert problems == [] and len(report.data) == 11
    assert sum(len(data.class_names) for data in report.data) == 1201
    scenario = load_scenario(config.data)
    assert len(scenario.class_names) == 1201 and [len(task.class_names) for task in scenario.tasks] == [
        COUNTS[source["name"]] for source in config.data.sources
    ]
    prompts = [len(scenario.wording[name].prompts) for name in scenario.class_names]
    assert sum(prompts) == sum(count * len(clip_lists()[name]) for name, count in COUNTS.items()) == 8452
