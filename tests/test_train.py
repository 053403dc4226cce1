"""The command that trains: how it ends, and what it says then."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_run import FAST, small_run

from segp_ext import train
from segp_ext.method.learner import SeGPCL


def test_an_interrupt_leaves_a_directory_that_says_what_was_done(capsys, stopped):
    said = capsys.readouterr()
    result = json.loads((stopped / "result.json").read_text())
    assert " ".join(said.out.split()).startswith(f"protocol {result['protocol']['id']}, folder {stopped} ")
    assert f"--resume {stopped}" in said.err
    assert result["status"] == "interrupted" and "after 1 of 2 tasks" in result["message"]
    assert len(result["scores"]["segp (text)"]["A"]) == 1 and (stopped / "checkpoints/task-001/learner.json").is_file()
    summary = (stopped / "summary.md").read_text()
    assert "Status: interrupted" in summary and "not learnt" in summary


def test_a_gpu_whose_memory_runs_out_says_what_to_lower(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/segp", "train"])

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("segp_ext.method.losses.TaskLosses.of_samples", full)
    assert small_run(tmp_path) == 2
    message = capsys.readouterr().err
    assert "memory ran out in phase training; lower training.prompts_per_pass, or raise training.accumulate" in message
    assert message.endswith(f"\nto go on: segp train --resume {tmp_path / 'run'}\n")


OWN = """
from segp_ext.method.heads import Head
from segp_ext.method.losses import Loss
from segp_ext.method.sources import Source


class Moving(Source):
    def move(self, teacher, seed, target, drawn):
        return 1 / 0


class Scoring(Head):
    def scores(self, feature, prototypes, logit_scale):
        return 1 / 0


class Losing(Loss):
    def of_images(self, images, text):
        return 1 / 0


class Narrow(Head):
    def scores(self, feature, prototypes, logit_scale):
        return super().scores(feature, prototypes, logit_scale)[:, :-1]
"""


@pytest.mark.parametrize(
    ("setting", "name", "said"),
    [
        ("anchors.kind", "Moving", " ZeroDivisionError: division by zero"),
        ("prototypes.score", "Scoring", " ZeroDivisionError: division by zero"),
        ("extra_loss.kind", "Losing", " ZeroDivisionError: division by zero"),
        ("prototypes.score", "Narrow", " scores must return a floating-point tensor ["),
    ],
)
def test_a_part_of_ones_own_that_fails_is_named_in_one_line(setting, name, said, tmp_path, monkeypatch, capsys):
    (tmp_path / "parts_that_fail.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "argv", ["/usr/bin/segp", "train"])
    assert small_run(tmp_path, f"--{setting}=parts_that_fail:{name}", "--model.device=cpu") == 2
    error, go_on = capsys.readouterr().err.splitlines()[-2:]
    assert error.startswith(f"error: {setting} parts_that_fail:{name}:{said}")
    assert go_on == f"to go on: segp train --resume {tmp_path / 'run'}"
    sys.modules.pop("parts_that_fail")


@pytest.mark.slow
def test_a_terminated_run_says_how_to_go_on(tmp_path):
    command = [sys.executable, "-m", "segp_ext.train", *FAST, "--training.epochs=500"]
    process = subprocess.Popen(
        [*command, f"--run.directory={tmp_path}", "--run.name=run"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "trained parameters" in line:
            break
    process.terminate()
    _, errors = process.communicate(timeout=1800)
    assert process.returncode == 143 and f"--resume {tmp_path / 'run'}" in errors and "Traceback" not in errors
    assert json.loads((tmp_path / "run/result.json").read_text())["status"] == "interrupted"


@pytest.mark.slow
def test_an_interrupt_while_plotting_keeps_every_result(tmp_path, monkeypatch):
    from segp_ext.report import run_plots

    def interrupted(directory, result):
        raise KeyboardInterrupt

    monkeypatch.setattr(run_plots, "plot", interrupted)
    assert small_run(tmp_path) == 130
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert result["status"] == "interrupted" and "after 2 of 2 tasks" in result["message"]
    assert len(result["scores"]["segp (dual)"]["A"]) == 2


ODD = {  # what the command stands behind, flags of Python, variables
    "another hash seed": ([], [], {"PYTHONHASHSEED": "12345"}),
    "every warning an error": ([], ["-W", "error"], {}),
    "few open files": (["sh", "-c", 'ulimit -n 40; exec "$@"', "sh"], [], {}),
    "no place for plot settings": ([], [], {"MPLCONFIGDIR": "datasets.py/below"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("condition", ODD)
def test_the_same_numbers_under_odd_conditions(condition, finished, tmp_path):
    begin, flags, variables = ODD[condition]
    (tmp_path / "datasets.py").write_text("raise SystemExit('a file of the present folder was imported')\n")
    command = [*begin, sys.executable, *flags, "-m", "segp_ext.train", *FAST, "--run.directory=[odd]", "--run.name=run"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **variables}, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    results = [json.loads((folder / "result.json").read_text()) for folder in (finished, tmp_path / "[odd]/run")]
    assert results[0]["scores"] == results[1]["scores"]


def test_results_that_cannot_be_written_are_said_before_anything_is_learnt(tmp_path, monkeypatch, capsys):
    def refuse(*given, **named):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(tmp_path / "results"))

    monkeypatch.setattr(Path, "mkdir", refuse)
    monkeypatch.setattr(SeGPCL, "learn_task", lambda *given: pytest.fail("it learnt"))
    assert train.main([*FAST, f"--run.directory={tmp_path / 'results'}"]) == 2
    said = capsys.readouterr().err
    assert "Read-only file system" in said and str(tmp_path / "results") in said
