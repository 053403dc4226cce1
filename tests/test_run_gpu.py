"""benchmarks/run_gpu.sh, with a command in place of Python: what it keeps whatever happens to a step."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "run_gpu.sh"


@pytest.fixture
def start(tmp_path):
    """Starts the script with steps; each runs the shell commands given, and the page at the end is one word."""

    def start(step: str, *steps: str) -> subprocess.Popen[bytes]:
        python = tmp_path / "python"
        python.write_text(f'#!/bin/sh\n[ "$1" != scripts/gpu_page.py ] || exec echo page\n{step}\n')
        python.chmod(0o755)
        environment = {**os.environ, "PYTHON": str(python), "DEVICE": "cpu"}
        return subprocess.Popen([SCRIPT, tmp_path / "out", *steps], env=environment, stderr=subprocess.PIPE)

    return start


def packed(out: Path) -> set[str]:
    assert (out / "results.md").read_text() == "page\n"
    with tarfile.open(out / "results.tar.gz") as archive:
        return {Path(name).name for name in archive.getnames()}


def test_a_step_that_fails_stops_no_other_and_all_is_packed(start, tmp_path):
    assert start('echo "missing: $1"; exit 3', "needs", "overhead").wait(60) == 1
    lines = (tmp_path / "out/summary.txt").read_text().splitlines()
    assert [line.split()[:3] for line in lines] == [["needs", "FAILED", "(3)"], ["overhead", "FAILED", "(3)"]]
    assert "missing: scripts/gpu_needs.py" in lines[0]
    assert {"needs.log", "overhead.log", "summary.txt", "results.md"} <= packed(tmp_path / "out")


def test_who_is_told_to_end_packs_at_once(start, tmp_path):
    script = start("echo begun; exec sleep 30", "needs", "build")
    log = tmp_path / "out/needs.log"
    while not (log.is_file() and log.read_text()):
        time.sleep(0.05)
    begin = time.monotonic()
    script.send_signal(signal.SIGTERM)
    assert script.wait(60) == 143 and time.monotonic() - begin < 20
    assert "needs.log" in packed(tmp_path / "out") and not (tmp_path / "out/build.log").exists()


def test_what_was_done_is_packed_when_the_script_is_killed(start, tmp_path):
    script = start('[ "$1" != scripts/gpu_build.py ] || exec sleep 5', "needs", "build")
    log = tmp_path / "out/build.log"
    while not log.is_file():
        time.sleep(0.05)
    script.kill()
    script.wait(60)
    assert {"needs.log", "summary.txt", "results.md"} <= packed(tmp_path / "out")


def test_no_command_takes_more_than_ten_minutes():
    """With the ten seconds in which a command may end by itself, and ten more to pack."""
    limits = [int(limit) for limit in re.findall(r"\brun (\d+) ", SCRIPT.read_text())]
    assert len(limits) > 5 and max(limits) + 20 <= 600


def test_a_step_that_does_not_exist_is_named_before_anything_runs(start, tmp_path):
    script = start("exit 0", "needs", "bild")
    assert script.wait(60) == 2 and script.stderr is not None and b"there is no step bild" in script.stderr.read()
    assert not (tmp_path / "out/needs.log").exists()


def test_packages_carried_along_are_found_after_the_checkout(start, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/carried/along")
    assert start('echo "missing: $PYTHONPATH"', "needs").wait(60) == 0
    assert f"missing: {SCRIPT.parents[1]}:/carried/along" in (tmp_path / "out/summary.txt").read_text()
