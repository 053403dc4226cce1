"""scripts/gpu_needs.py, the first step of benchmarks/run_gpu.sh."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
import gpu_needs


@pytest.fixture
def said(monkeypatch, capsys):
    """Runs the script where some packages are missing, and others have the versions given; its last line."""

    def run(*gone: str, **versions: str) -> str:
        def version(name: str) -> str:
            if name in gone:
                raise importlib.metadata.PackageNotFoundError(name)
            return versions.get(name, "999")

        monkeypatch.setattr(importlib.metadata, "version", version)
        status = gpu_needs.main("cpu")
        last = capsys.readouterr().out.splitlines()[-1]
        assert status == (last != "missing: nothing")
        return last

    return run


def test_what_no_step_uses_is_not_missing(said):
    assert said("selenium", "jsonschema", "fastapi", "uvicorn", "httpx", "onnx") == "missing: nothing"


def test_what_a_missing_package_needs_is_named_with_it(said):
    assert said("open_clip_torch", "ftfy", "wcwidth") == "missing: open_clip_torch>=3.0, ftfy, wcwidth"


def test_what_is_too_old_is_missing(said):
    assert said(setuptools="76.1", torch="2.11.0+cu130") == "missing: setuptools>=77"
    assert said(torch="2.9.1") == "missing: torch>=2.11"
