"""A run's result: what is written is read again, what is none is refused, and the page says what there is."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from pathlib import Path

import jsonschema
import pytest

from segp_ext.config import PATHS
from segp_ext.report.result import FORMAT, PathResult, Resumption, Row, RunResult, TaskReport
from segp_ext.runtime.timing import Phase

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("result_page", ROOT / "scripts/result_page.py")
assert spec is not None and spec.loader is not None
result_page = importlib.util.module_from_spec(spec)
spec.loader.exec_module(result_page)


@pytest.fixture
def made():
    """Two tasks of a method whose name could be read as a path, and a baseline."""
    paths = {path: PathResult([[0.9], [0.8, 0.5]], [0.9, 0.65], [None, None]) for path in PATHS}
    paths["text"] = PathResult(
        [[0.9], [0.8, 0.5]], [0.9, 0.65], [0.25, None], [[0.5, 0.4], [0.9, 0.5], [0.8, 0.5]], [0.45, 0.7, 0.65],
        [[0, 0, 4], [0, 1, 1], [1, 1, 2]],
    )  # fmt: skip
    return RunResult(
        name="run", status="finished", message="All 2 tasks learnt.", method="odd (text)", seed=3,
        settings={"training": {"epochs": 1}}, protocol={"id": "p", "hash": "h"},
        scores=[Row("zero-shot", "text", True, paths["text"]), *(Row("odd (text)", path, False, paths[path]) for path in PATHS)],
        retention={"letters": [0.5, 0.4, 0.3]}, prototype_distance=[[0.2, 0.1]],
        tasks=[TaskReport(["a"], 10, 5, 4, {"training": Phase(2.0, 1.5)}, {"acgd": 0.1}), TaskReport(["b"], 9)],
        phases={"training": Phase(4.0, 3.0)}, passes={}, device="cpu", processes=1, threads=2, versions={"torch": "2"}, build={}, code={},
        started="now", resumed=[Resumption(1, "later", "cpu")], trained_parameters=7, plots=["accuracy.png"], updated="then",
        class_names=["a", "b"],
    )  # fmt: skip


@pytest.fixture
def file(made, tmp_path):
    path = tmp_path / "result.json"
    path.write_bytes(made.to_json())
    return path


def test_what_is_written_is_read_again(made, file):
    assert RunResult.read(file) == made == RunResult.read(file, tasks=2)


def test_rows_have_names_for_people_and_parts_of_their_own(made, file):
    scores = json.loads(file.read_text())["scores"]
    assert list(scores) == ["zero-shot", *(f"odd (text) ({path})" for path in PATHS)]
    dual = scores["odd (text) (dual)"]
    assert (dual["method"], dual["path"], dual["baseline"]) == ("odd (text)", "dual", False)
    assert dual["last"] == 0.65 and dual["forgetting"] == pytest.approx(0.1)
    assert made.row("dual").method == "odd (text)" and [row.path for row in made.own] == list(PATHS)
    with pytest.raises(KeyError):
        dataclasses.replace(made, scores=made.scores[:1]).row("text")


def test_confusions_take_one_line_an_entry(made, file):
    assert "    [0, 1, 1],\n" in file.read_text()
    text = json.loads(file.read_text())["scores"]["odd (text) (text)"]
    assert text["confusion"] == [[0, 0, 4], [0, 1, 1], [1, 1, 2]] and text["class_accuracy"] == [0.8, 1.0]
    assert "confusion" not in json.loads(file.read_text())["scores"]["odd (text) (dual)"]  # which was not counted
    odd = dataclasses.replace(made, message="[\n 1,\n 2,\n 3\n]")  # what reads like three numbers stays a string
    assert json.loads(odd.to_json())["message"] == odd.message


def test_a_result_of_an_earlier_version_has_no_confusions(made, file):
    found = json.loads(file.read_text())
    del found["class_names"]
    for row in found["scores"].values():
        row.pop("confusion", None)
        row.pop("class_accuracy", None)
    file.write_text(json.dumps(found))
    read = RunResult.read(file)
    assert read.class_names == [] and all(row.scores.confusion == [] for row in read.scores)
    assert read.scores[1].scores.matrix == made.scores[1].scores.matrix


def test_a_row_that_is_recorded_again_keeps_its_place(made):
    made.record(Row("zero-shot", "text", True, PathResult([[0.1]], [0.1], [None])))
    assert made.scores[0].scores.pooled == [0.1] and len(made.scores) == 4


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda r: r.pop("seed"), "seed is missing"),
        (lambda r: r.update(seed="3"), "seed must be a whole number; got '3'"),
        (lambda r: r.update(status="well"), "status must be one of running, finished, interrupted, failed; got 'well'"),
        (lambda r: r.update(more=1), "more is unknown"),
        (lambda r: r.update(resumed=[{"after": 1}]), "resumed.at is missing"),
        (lambda r: r["phases"]["training"].update(wall="long"), "phases.training.wall must be a number; got 'long'"),
        (lambda r: r["tasks"].pop(), "scores: odd"),
        (lambda r: r.update(scores=[]), "scores must be an object"),
        (lambda r: r.update(trained_parameters="7"), "trained_parameters must be a whole number or null; got '7'"),
        (lambda r: r["scores"]["zero-shot"].pop("baseline"), "scores: zero-shot"),
        (lambda r: r["scores"]["odd (text) (dual)"].update(path="side"), "scores: odd"),
        (lambda r: r["scores"]["odd (text) (dual)"].update(A=[0.9, 1.5]), "scores: odd"),
        (lambda r: r["scores"]["odd (text) (dual)"].update(R=[[0.9]]), "scores: odd"),
        (lambda r: r["scores"]["odd (text) (text)"].update(global_A=[0.5]), "scores: odd"),
        (
            lambda r: r["scores"]["odd (text) (text)"].update(confusion=[[0, 2, 1]]),
            "scores: odd (text) (text): confusion",
        ),
        (lambda r: r["scores"]["zero-shot"].update(confusion=[[0, 0]]), "scores: zero-shot: confusion"),
        (lambda r: r["scores"]["zero-shot"].update(confusion={"0": 1}), "scores: zero-shot: confusion"),
        (lambda r: r["scores"]["zero-shot"].update(confusion=[[0, 0, 0.5]]), "scores: zero-shot: confusion"),
    ],
)
def test_what_is_no_result_is_refused_by_its_entry(file, change, place):
    found = json.loads(file.read_text())
    change(found)
    file.write_text(json.dumps(found))
    with pytest.raises(ValueError, match="result.json is no result of a run: ") as refused:
        RunResult.read(file)
    assert f": {place}" in str(refused.value)


def test_another_format_and_another_number_of_tasks_are_refused(file):
    with pytest.raises(ValueError, match="is no result of a run after 1 tasks"):
        RunResult.read(file, tasks=1)
    found = json.loads(file.read_text())
    for other, said in (({"format": FORMAT + 1}, "2"), ({}, "none")):
        file.write_text(json.dumps({key: value for key, value in found.items() if key != "format"} | other))
        with pytest.raises(ValueError, match=f"is no result of format 1: it has {said}"):
            RunResult.read(file)
    file.write_text("[]")
    with pytest.raises(ValueError, match=r"result.json must hold an object; got list"):
        RunResult.read(file)


def test_the_schema_is_that_of_what_is_written(file):
    schema = result_page.schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    found = json.loads(file.read_text())
    jsonschema.validate(found, schema)
    found["scores"]["zero-shot"]["A"] = [2.0]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(found, schema)


def test_the_page_is_up_to_date():
    assert (ROOT / "docs/result.md").read_text() == result_page.page(), (
        "run python scripts/result_page.py > docs/result.md"
    )


def test_calibration_errors_are_kept_and_checked(made, file, tmp_path):
    made.row("dual").scores.calibration_error = [[0.1, 0.02], [0.2, 0.03]]
    file.write_bytes(made.to_json())
    assert RunResult.read(file).row("dual").scores.calibration_error == [[0.1, 0.02], [0.2, 0.03]]
    jsonschema.validate(json.loads(file.read_text()), result_page.schema())
    for wrong in ([[0.1, 0.02]], [[0.1, 0.02], [0.2]], [[0.1, 1.2], [0.2, 0.3]]):
        made.row("dual").scores.calibration_error = wrong
        file.write_bytes(made.to_json())
        with pytest.raises(ValueError, match="calibration_error must be 2 pairs of numbers from 0 to 1"):
            RunResult.read(file)
