"""The traps of loading the native library, with faked libraries and checkouts."""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

from segp_ext.ops import _fingerprint, _native

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
import build_support  # noqa: E402


def fake_library(path: Path, **info: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x7fELF junk \xff\xfe segp_ext-build-info:" + json.dumps(info).encode() + b"\0 more junk")
    return path


@pytest.fixture
def alone(monkeypatch):
    """No installed distribution stands in for what a test takes away; the loader's memory starts empty."""
    monkeypatch.setattr(_native.importlib.metadata, "distributions", lambda **_: [])
    monkeypatch.delenv("SEGP_EXT_REQUIRE_NATIVE", raising=False)
    _native.native.cache_clear()
    yield
    _native.native.cache_clear()


def make_checkout(root: Path) -> Path:
    """A checkout with sources of its own; its package folder."""
    (root / "csrc" / "include" / "segp").mkdir(parents=True)
    (root / "csrc" / "kernel.cpp").write_text("int kernel;\n")
    (root / "python").mkdir()
    (root / "python" / "library.cpp").write_text("int library;\n")
    (root / "segp_ext").mkdir()
    return root / "segp_ext"


def test_source_hash_follows_the_sources(tmp_path):
    make_checkout(tmp_path)
    before = _fingerprint.source_hash(tmp_path)
    assert before == build_support.load_source_hash(ROOT)(tmp_path)
    (tmp_path / "csrc" / "notes.txt").write_text("not a source")
    assert _fingerprint.source_hash(tmp_path) == before
    (tmp_path / "csrc" / "kernel.cpp").write_bytes(b"int kernel;\r\n")
    assert _fingerprint.source_hash(tmp_path) == before
    (tmp_path / "csrc" / "kernel.cpp").write_text("int kernel2;\n")
    changed = _fingerprint.source_hash(tmp_path)
    assert changed != before
    (tmp_path / "csrc" / "kernel.cpp").rename(tmp_path / "csrc" / "renamed.cpp")
    assert _fingerprint.source_hash(tmp_path) != changed


def test_info_is_read_without_loading(tmp_path):
    path = fake_library(tmp_path / "_C.abi3.so", source_hash="abc", cuda=False)
    assert _native.read_library_info(path) == {"source_hash": "abc", "cuda": False}
    path.write_bytes(b"\x7fELF says nothing")
    assert _native.read_library_info(path) is None
    path.write_bytes(b"segp_ext-build-info:{broken\0")
    assert _native.read_library_info(path) is None


def test_library_of_other_sources_is_refused(tmp_path, alone):
    package = make_checkout(tmp_path)
    library = fake_library(package / "_C.abi3.so", source_hash="0123456789abcdef")
    path, reason = _native.find_library(package)
    assert path is None
    assert "was built from sources 0123456789abcdef" in reason
    assert "pip install ." in reason
    fake_library(library, source_hash=_fingerprint.source_hash(tmp_path))
    assert _native.find_library(package) == (library, "")


def test_installed_package_needs_no_sources(tmp_path, alone):
    library = fake_library(tmp_path / "segp_ext" / "_C.abi3.so", source_hash="0123456789abcdef")
    assert _native.find_library(tmp_path / "segp_ext") == (library, "")


class Distribution:
    """What importlib.metadata says of an installed package."""

    def __init__(self, site: Path, *files: str) -> None:
        self.site = site
        self.files = [Path(file) for file in files] or None

    def locate_file(self, file: Path) -> Path:
        return self.site / file


def test_a_checkout_finds_the_installed_library(tmp_path, alone, monkeypatch):
    """Also behind an .egg-info folder in the checkout, which comes first and knows no files."""
    package = make_checkout(tmp_path / "checkout")
    fresh = _fingerprint.source_hash(tmp_path / "checkout")
    site = tmp_path / "site"
    library = fake_library(site / "segp_ext" / "_C.abi3.so", source_hash=fresh)
    found = [
        Distribution(tmp_path / "checkout"),
        Distribution(site, "segp_ext/__init__.py", "segp_ext/_C.abi3.so"),
    ]
    monkeypatch.setattr(_native.importlib.metadata, "distributions", lambda **_: found)
    assert _native.find_library(package) == (library, "")
    fake_library(library, source_hash="stale")
    path, reason = _native.find_library(package)
    assert path is None
    assert "sources stale" in reason


def test_a_copy_without_sources_takes_no_other_copys_library(tmp_path, alone, monkeypatch):
    """As in a zip archive: nothing tells whether an installed library is of this copy's version."""
    site = tmp_path / "site"
    fake_library(site / "segp_ext" / "_C.abi3.so", source_hash="abc")
    found = [Distribution(site, "segp_ext/__init__.py", "segp_ext/_C.abi3.so")]
    monkeypatch.setattr(_native.importlib.metadata, "distributions", lambda **_: found)
    path, reason = _native.find_library(tmp_path / "copy" / "segp_ext")
    assert path is None and "no compiled library is installed" in reason


def test_missing_library_warns_once(tmp_path, alone, monkeypatch):
    monkeypatch.setattr(_native.find_library, "__defaults__", (tmp_path,))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert not _native.native().loaded
        assert not _native.native().loaded
        info = _native.build_info()
    assert len(caught) == 1
    assert "segp_ext runs its slow eager path: no compiled library is installed" in str(caught[0].message)
    assert info["ops_path"] == "eager"
    assert info["devices"] == []
    assert "no compiled library" in info["reason"]


def test_missing_library_where_native_was_demanded(tmp_path, alone, monkeypatch):
    monkeypatch.setattr(_native.find_library, "__defaults__", (tmp_path,))
    monkeypatch.setenv("SEGP_EXT_REQUIRE_NATIVE", "1")
    with pytest.raises(RuntimeError, match="SEGP_EXT_REQUIRE_NATIVE=1, but no compiled library"):
        _native.native()


def test_a_library_that_does_not_load_falls_back(tmp_path, alone, monkeypatch):
    """A wrong torch shows itself as an undefined symbol, an OSError of the dynamic linker; as junk does here."""
    fake_library(tmp_path / "_C.abi3.so", torch_target="2.11")
    monkeypatch.setattr(_native.find_library, "__defaults__", (tmp_path,))
    with pytest.warns(RuntimeWarning, match=r"does not load under torch .* \(it needs torch >= 2\.11\)"):
        state = _native.native()
    assert not state.loaded
    monkeypatch.setenv("SEGP_EXT_REQUIRE_NATIVE", "1")
    _native.native.cache_clear()
    with pytest.raises(RuntimeError, match="does not load under torch"):
        _native.native()


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_undefined_symbol_is_named(tmp_path, alone, monkeypatch):
    source = tmp_path / "probe.c"
    source.write_text("extern int symbol_of_a_newer_torch(void); int use(void) { return symbol_of_a_newer_torch(); }\n"
                      "int (*keep)(void) = symbol_of_a_newer_torch;\n")  # fmt: skip
    command = ["cc", "-shared", "-fPIC", str(source), "-o", str(tmp_path / "_C.abi3.so")]
    subprocess.run(command, check=True)
    monkeypatch.setattr(_native.find_library, "__defaults__", (tmp_path,))
    with pytest.warns(RuntimeWarning, match="symbol_of_a_newer_torch"):
        assert not _native.native().loaded


@pytest.mark.skipif(torch.version.cuda is None, reason="this torch has no CUDA")
def test_torch_has_the_functions_that_the_library_asks_for_by_name():
    names = re.findall(r'"(aoti_torch_\w+)"', (ROOT / "python/torch_cuda.h").read_text())
    library = ctypes.CDLL("libtorch_cuda.so", mode=os.RTLD_NOLOAD)
    names.remove("aoti_torch_cpu_addmm_out")  # the emulation's
    assert len(names) == 2 and [name for name in names if not hasattr(library, name)] == []
