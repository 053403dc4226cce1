"""The page "Month by month", block for block from the shell: on photographs where they are at hand, else on digits."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from documented import ROOT, blocks
from forked import Forks
from months import month

pytestmark = pytest.mark.slow
PHOTOGRAPHS = ROOT.parent / "shared/data/caltech101_112.tar.xz"
MONTHS = {
    "2026-01": ("butterfly", "laptop", "sunflower"),
    "2026-02": ("llama", "starfish"),
    "2026-03": ("menorah", "grand_piano"),
}
"""Classes of Caltech-101 by month."""
COUNT, MORE = 24, 6


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the months of photographs, and a program `segp`."""
    folder = tmp_path_factory.mktemp("story")
    if PHOTOGRAPHS.is_file():
        wanted = {f"./{name}/" for names in MONTHS.values() for name in names}
        with tarfile.open(PHOTOGRAPHS) as archive:
            members = [m for m in archive if m.isfile() and m.name[: m.name.rfind("/") + 1] in wanted]
            archive.extractall(folder / "all", members, filter="data")
        for when, names in MONTHS.items():
            for name in names:
                files = sorted((folder / "all" / name).glob("*.jpg"))
                (folder / "photos" / when / name).mkdir(parents=True)
                for file in files[:COUNT]:
                    shutil.copy(file, folder / "photos" / when / name)
        (folder / "photos/more/llama").mkdir(parents=True)
        for file in sorted((folder / "all/llama").glob("*.jpg"))[COUNT : COUNT + MORE]:
            shutil.copy(file, folder / "photos/more/llama")
    else:
        names = [name for names in MONTHS.values() for name in names]
        for digit, name in enumerate(names):
            when = next(when for when, of_month in MONTHS.items() if name in of_month)
            month(folder / "made", [f"{digit}"], COUNT)
            (folder / "photos" / when).mkdir(parents=True, exist_ok=True)
            (folder / "made" / f"{digit}").rename(folder / "photos" / when / name)
        month(folder / "made", [f"{names.index('llama')}"], MORE, first=COUNT)
        (folder / "photos/more").mkdir()
        (folder / "made" / f"{names.index('llama')}").rename(folder / "photos/more/llama")
    # Each command is a process of its own, a fork, as it would spend most of its time on imports; the server is a new one.
    forks = Forks(folder, threads=2)
    for place, words in (
        ("bin", f"-I -S {ROOT}/tests/forked.py run {folder / 'forks'}"),
        ("new/bin", "-m segp_ext"),
    ):
        program = folder / place / "segp"
        program.parent.mkdir(parents=True)
        program.write_text(f'#!/bin/bash\nexec {sys.executable} {words} "$@"\n')
        program.chmod(0o755)
    yield folder
    forks.close()


def environment(place: Path, programs: str = "bin") -> dict[str, str]:
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return {
        **os.environ,
        "PATH": f"{place / programs}:{os.environ['PATH']}",
        "PYTHONPATH": paths,
        "OMP_NUM_THREADS": "2",
    }


def classes(place: Path) -> list[str]:
    return [entry["name"] for entry in json.loads((place / "animals/learner.json").read_text())["classes"]]


def test_the_whole_story(place):
    told = [block for block in blocks(ROOT / "docs/months.md") if block.language == "bash"]
    *shell, serve = told
    for block in shell:
        done = subprocess.run(
            ["bash", "-ec", block.code], cwd=place, env=environment(place), capture_output=True, text=True
        )
        assert done.returncode == 0, (block.code, done.stdout, done.stderr)
    assert classes(place) == ["small animal", "sunflower", "alpaca", "grand piano", "menorah"]
    rows = list(csv.DictReader((place / "names.csv").open()))
    assert len(rows) == 2 * COUNT and {row["error"] for row in rows} == {""}
    right = sum(Path(row["path"]).parent.name == row["name"] for row in rows)
    assert right > len(rows) / 2  # these images were learnt
    assert "<svg" in (place / "measured/report.html").read_text()
    assert (place / "for_the_server/model.onnx").is_file()
    records = {e["name"]: e for e in json.loads((place / "animals/learner.json").read_text())["classes"]}
    assert records["alpaca"]["images"] == COUNT + MORE and records["small animal"]["images"] == 2 * COUNT

    pytest.importorskip("uvicorn", reason="the extra serve is not installed")
    server = subprocess.Popen(
        ["bash", "-ec", serve.code.replace("animals", "animals --port 8765", 1)],
        cwd=place,
        env=environment(place, "new/bin"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        image = next((place / "photos/2026-03/menorah").glob("*")).read_bytes()
        answer = ask("predict?topk=2", image)
        assert len(answer["images"][0]["names"]) == 2 and answer["images"][0]["unknown"] in (True, False)
        assert {entry["name"] for entry in ask("classes")["classes"]} == {*classes(place)}
    finally:
        server.terminate()
        server.wait(30)


def ask(what: str, body: bytes | None = None) -> dict:
    """Asks the server, which may still be starting."""
    for _ in range(120):
        try:
            request = urllib.request.Request(
                f"http://127.0.0.1:8765/{what}", body, {"Content-Type": "image/jpeg"} if body else {}
            )
            with urllib.request.urlopen(request, timeout=30) as response:
                return json.load(response)
        except ConnectionError:
            time.sleep(0.5)
        except urllib.error.URLError as error:
            if not isinstance(error.reason, ConnectionError):
                raise
            time.sleep(0.5)
    raise AssertionError("the server did not start")
