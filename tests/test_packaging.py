"""The installed package: its library, its imports, and the list of situations with their tests."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import segp_ext
from segp_ext.ops import _fingerprint

ROOT = Path(__file__).resolve().parents[1]

sys.path.insert(0, str(ROOT))


INFO = segp_ext.build_info()

needs_native = pytest.mark.skipif(INFO["ops_path"] != "native", reason="the native library is not loaded")


def run_python(code: str, cwd: Path, **environ: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env={**os.environ, **environ}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@needs_native
def test_run_from_the_checkout_uses_the_installed_library():
    code = "import segp_ext; i = segp_ext.build_info(); print(segp_ext.__file__); print(i['ops_path'], i['library'])"
    file, used = run_python(code, ROOT, SEGP_EXT_REQUIRE_NATIVE="1").splitlines()
    assert Path(file).parent == ROOT / "segp_ext"
    assert used.startswith("native ")


@needs_native
def test_build_info_tells_what_there_is():
    assert INFO["reason"] == ""
    assert INFO["torch_target"] == "2.11"
    assert "cpu" in INFO["devices"]
    assert len(INFO["source_hash"]) == 16
    if _fingerprint.has_sources(ROOT):
        assert INFO["source_hash"] == _fingerprint.source_hash(ROOT)
    assert INFO["cuda_built"] == bool(INFO["cuda_architectures"])
    assert INFO["cuda_built"] or INFO["cuda_reason"]


@needs_native
def test_library_is_linked_to_no_cuda_library():
    """Or it would not load under a torch without CUDA."""
    if shutil.which("readelf") is None:
        pytest.skip("readelf is not installed")
    text = subprocess.run(["readelf", "-d", INFO["library"]], capture_output=True, text=True, check=True).stdout
    needed = [line for line in text.splitlines() if "NEEDED" in line]
    assert needed
    assert not [line for line in needed if "cuda" in line or "python" in line]


def test_import_is_light(tmp_path):
    """Of all that the package needs, torch and NumPy alone."""
    code = (
        "import sys, torch; before = set(sys.modules); import segp_ext, segp_ext.ops\n"
        "heavy = {'torchvision', 'open_clip', 'peft', 'matplotlib', 'sklearn', 'PIL', 'tqdm'}\n"
        "print(sorted(heavy & (set(sys.modules) - before)))"
    )
    assert run_python(code, tmp_path) == "[]"


@pytest.mark.slow
def test_in_a_zip_archive_the_file_that_is_missing_is_named(tmp_path):
    """It is no way to run the package: kernels and weights are files."""
    package = Path(segp_ext.__file__).parent
    with zipfile.ZipFile(tmp_path / "app.zip", "w") as archive:
        for file in package.rglob("*.py"):
            archive.write(file, file.relative_to(package.parent))
    code = "import segp_ext; print(segp_ext.build_info()['ops_path']); segp_ext.load_clip('glyph')"
    environment = {key: value for key, value in os.environ.items() if key != "SEGP_EXT_REQUIRE_NATIVE"}
    environment["PYTHONPATH"] = str(tmp_path / "app.zip")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.stdout == "eager\n" and "RuntimeWarning: segp_ext runs its slow eager path" in done.stderr
    assert (
        done.returncode == 1
        and f"{tmp_path}/app.zip/segp_ext/clip/assets/glyph.safetensors" in done.stderr.splitlines()[-1]
    )


def test_every_situation_names_tests_that_are_there():
    before, of_tests, content = [""], False, ""
    for line in (ROOT / "tests/situations.md").read_text(encoding="utf-8").splitlines():
        cells = line.strip("| ").split(" | ")
        if line.startswith("|--"):
            of_tests = before[-1] == "test"
        elif line.startswith("| ") and of_tests:
            named = re.findall(r"(?:([\w/]+\.py)::)?(test_\w+)", cells[-1])
            assert named and named[0][0], line
            for file, name in named:  # a name alone is of the file before it
                content = (ROOT / "tests" / file).read_text(encoding="utf-8") if file else content
                assert f"def {name}(" in content, (name, line)
        elif not line.startswith("|"):
            of_tests = False
        before = cells
