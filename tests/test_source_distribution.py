"""The source distribution holds the whole repository, so that it builds and passes these tests where it is unpacked."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def listed() -> set[str]:
    """The files that git tracks here."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("no git checkout, so that nothing says which files there should be")
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return {name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()}


def test_it_holds_every_tracked_file(tmp_path):
    expected = listed()
    command = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", tmp_path, "sdist", "--dist-dir", tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as files:
        names = {member.name.partition("/")[2] for member in files if member.isfile()}
    assert expected - names == set()
    extra = {name for name in names - expected if not name.startswith("segp_ext.egg-info/")}
    assert not [name for name in extra if name.endswith((".pyc", ".so", ".o"))]
