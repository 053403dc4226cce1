"""The programs in examples/ run, on the built-in model, and do what they say."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from segp_ext.method.learner import SeGPCL

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs an example as a program and returns what it printed."""

    def program(name: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        monkeypatch.syspath_prepend(EXAMPLES)
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    yield program
    sys.modules.pop("own_anchors", None)


def test_all_are_here():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {"month_by_month", "ops_in_your_loop", "own_anchors"}


def test_month_by_month(tmp_path, run):
    scans = load_digits()
    for month, names in {"2026-01": ("zero", "one"), "2026-02": ("two", "three")}.items():
        for name in names:
            folder = tmp_path / "photos" / month / name
            folder.mkdir(parents=True)
            of_class = scans.images[scans.target == ["zero", "one", "two", "three"].index(name)]
            for number, pixels in enumerate(of_class[:4]):
                Image.fromarray((pixels * 15.9).astype(np.uint8)).save(folder / f"{number}.png")
    first = run("month_by_month", tmp_path / "photos", tmp_path / "animals")
    assert "2026-02: learnt three, two; 4 classes in all" in first
    learner = SeGPCL.load(tmp_path / "animals", "cpu")
    assert learner.class_names == ("one", "zero", "three", "two") and learner.task_sizes == [2, 2]
    again = run("month_by_month", tmp_path / "photos", tmp_path / "animals")
    assert again.splitlines()[:2] == ["2026-01: learnt already", "2026-02: learnt already"]
    assert again.splitlines()[2:] == first.splitlines()[2:]


def test_month_by_month_without_arguments_says_what_it_wants(run):
    with pytest.raises(SystemExit, match="python examples/month_by_month.py photos animals"):
        run("month_by_month")


def test_ops_in_your_loop(run):
    """What was learnt before is kept better with the ops than without."""
    said = run("ops_in_your_loop")
    alone, helped = (float(shown) for shown in re.findall(r"old digits (\d+\.\d) %, new", said))
    assert helped > alone + 2 and "with ACGD on anchors" in said


def test_own_anchors(run):
    said = run("own_anchors")
    assert "learnt 6, 4 with 10 anchors" in said and said.splitlines()[-1].startswith("a 2 is called ")
