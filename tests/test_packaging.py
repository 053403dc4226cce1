"""The traps of building and loading, with faked compilers, toolkits and libraries."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import pytest

import segp_ext
from segp_ext.ops import _native, _sources

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
import build_support  # noqa: E402

INFO = segp_ext.build_info()
needs_native = pytest.mark.skipif(INFO["ops_path"] != "native", reason="the native library is not loaded")


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def make_toolkit(home: Path, version: str = "13.0", without: str = "") -> Path:
    """A toolkit whose nvcc answers --version and --dryrun, less one of its parts."""
    answers = (
        f'case "$*" in *dryrun*) echo "#\\$ TOP={home}/bin/.." >&2;; *) echo "release {version}, V{version}";; esac'
    )
    script(home / "bin" / "nvcc", answers)
    for part in ("include/cuda_runtime.h", "lib64/libcudart_static.a"):
        if part != without:
            (home / part).parent.mkdir(parents=True, exist_ok=True)
            (home / part).touch()
    return home


# ------------------------------------------------------------------------------------------------ toolkits


def choose(path: Path | str = "", torch_cuda: str | None = "13.2", usual: tuple[str, ...] = (), **environ: str):
    return build_support.choose_cuda(torch_cuda, {"PATH": f"{path}:/usr/bin:/bin", **environ}, usual)


def test_toolkit_beside_nvcc(tmp_path):
    home = make_toolkit(tmp_path / "cuda")
    choice = choose(home / "bin")
    assert choice.toolkit is not None
    assert choice.toolkit.home == home
    assert choice.toolkit.version == "13.0"
    assert choice.toolkit.static_runtime == home / "lib64" / "libcudart_static.a"


def test_wrapper_nvcc_is_asked_where_its_toolkit_is(tmp_path):
    home = make_toolkit(tmp_path / "far" / "cuda")
    script(tmp_path / "bin" / "nvcc", f'exec {home}/bin/nvcc "$@"')
    choice = choose(tmp_path / "bin")
    assert choice.toolkit is not None
    assert choice.toolkit.home == home


def test_linked_nvcc(tmp_path):
    home = make_toolkit(tmp_path / "far" / "cuda")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "nvcc").symlink_to(home / "bin" / "nvcc")
    choice = choose(tmp_path / "bin")
    assert choice.toolkit is not None
    assert choice.toolkit.home == home


def test_usual_place_where_nvcc_is_not_on_the_path(tmp_path):
    home = make_toolkit(tmp_path / "cuda")
    choice = choose(tmp_path / "none", usual=(str(tmp_path / "absent"), str(home)))
    assert choice.toolkit is not None
    assert choice.toolkit.home == home


def test_cuda_home_is_the_last_word(tmp_path):
    named = make_toolkit(tmp_path / "named", without="include/cuda_runtime.h")
    other = make_toolkit(tmp_path / "other")
    choice = choose(other / "bin", CUDA_HOME=str(named))
    assert choice.toolkit is None
    assert "named has no include/cuda_runtime.h" in choice.reason


@pytest.mark.parametrize("missing", ["include/cuda_runtime.h", "lib64/libcudart_static.a"])
def test_half_a_toolkit(tmp_path, missing):
    home = make_toolkit(tmp_path / "cuda", without=missing)
    choice = choose(home / "bin")
    assert choice.toolkit is None
    assert f"{home} has no {missing.removeprefix('lib64/')}" in choice.reason
    assert "\n" not in choice.reason
    with pytest.raises(build_support.BuildError, match="SEGP_EXT_CUDA=1, but no usable CUDA toolkit"):
        choose(home / "bin", SEGP_EXT_CUDA="1")


def test_half_a_toolkit_does_not_hide_a_whole_one(tmp_path):
    half = make_toolkit(tmp_path / "half", without="lib64/libcudart_static.a")
    whole = make_toolkit(tmp_path / "whole")
    choice = choose(half / "bin", usual=(str(whole),))
    assert choice.toolkit is not None
    assert choice.toolkit.home == whole


def test_another_major_version(tmp_path):
    home = make_toolkit(tmp_path / "cuda", version="12.4")
    choice = choose(home / "bin")
    assert choice.toolkit is None
    assert "is CUDA 12.4, torch has CUDA 13.2" in choice.reason
    with pytest.raises(build_support.BuildError, match=r"CUDA 12\.4, torch has CUDA 13\.2"):
        choose(home / "bin", SEGP_EXT_CUDA="1")


def test_no_toolkit_at_all(tmp_path):
    assert "no usable CUDA toolkit" in choose(tmp_path, usual=(str(tmp_path / "absent"),)).reason


def test_torch_without_cuda(tmp_path):
    home = make_toolkit(tmp_path / "cuda")
    assert choose(home / "bin", torch_cuda=None).reason == "the torch at build time has no CUDA"


def test_switch(tmp_path):
    home = make_toolkit(tmp_path / "cuda")
    assert choose(home / "bin", SEGP_EXT_CUDA="0").reason == "SEGP_EXT_CUDA=0"
    assert choose(home / "bin", SEGP_EXT_CUDA="1").toolkit is not None
    with pytest.raises(build_support.BuildError, match="must be auto, 0 or 1; got 'yes'"):
        choose(home / "bin", SEGP_EXT_CUDA="yes")


def test_architectures():
    """Without a GPU torch would raise; here there is a default, which includes PTX for what comes later."""
    default = "8.0;8.6;9.0+PTX"
    assert build_support.cuda_architectures([], {}) == default
    assert build_support.cuda_architectures([(9, 0), (9, 0)], {}) == default
    assert build_support.cuda_architectures([(7, 5)], {}) == "7.5;8.0;8.6;9.0+PTX"
    assert build_support.cuda_architectures([(10, 0), (8, 9)], {}) == default
    assert build_support.cuda_architectures([], {"TORCH_CUDA_ARCH_LIST": "9.0"}) == "9.0"
    assert build_support.cuda_architectures([(8, 6)], {"TORCH_CUDA_ARCH_LIST": "native"}) == "8.6"
    assert build_support.cuda_architectures([], {"TORCH_CUDA_ARCH_LIST": "native"}) == default


# ----------------------------------------------------------------------------------------------- compilers


@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")
def test_a_working_compiler_is_found():
    assert build_support.find_compiler({"PATH": os.environ["PATH"]}).command


def test_no_compiler(tmp_path):
    found = build_support.find_compiler({"PATH": str(tmp_path)})
    assert found.command is None
    assert "no working C++ compiler (" in found.reason
    assert "g++: not found" in found.reason
    assert "\n" not in found.reason


def test_a_compiler_that_cannot_compile(tmp_path):
    script(tmp_path / "c++", 'echo "fatal error: vector: No such file or directory" >&2; exit 1')
    found = build_support.find_compiler({"PATH": str(tmp_path), "CXX": str(tmp_path / "c++")})
    assert found.command is None
    assert "CXX names no working compiler" in found.reason
    assert "fatal error: vector" in found.reason


def test_build_info_header_survives_quotes(tmp_path):
    build_support.write_build_info(tmp_path, {"cuda_reason": 'no "toolkit" \\ here'})
    header = tmp_path / "segp_build_info.h"
    before = header.stat().st_mtime_ns
    build_support.write_build_info(tmp_path, {"cuda_reason": 'no "toolkit" \\ here'})
    assert header.stat().st_mtime_ns == before, "an equal header must not cause a rebuild"
    literal = header.read_text().split("SEGP_EXT_BUILD_INFO ", 1)[1]
    assert json.loads(json.loads(literal)) == {"cuda_reason": 'no "toolkit" \\ here'}


def run_setup(folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """setup.py in a copy of the checkout, with nothing on PATH that compiles."""
    for name in ("setup.py", "build_support.py", "pyproject.toml", "MANIFEST.in"):
        shutil.copy(ROOT / name, folder)
    for name in ("README.md", "LICENSE"):
        (folder / name).write_text("text\n")
    ignore = shutil.ignore_patterns("*.so", "__pycache__", "assets")
    for name in ("segp_ext", "csrc", "python"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    clean = {k: v for k, v in os.environ.items() if k not in ("CXX", "CC") and not k.startswith("SEGP_EXT")}
    environment = {**clean, "PATH": str(folder / "empty"), **environ}
    command = [sys.executable, "setup.py", "-q", "build", "--build-base", "build"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_without_a_compiler_it_installs_the_eager_path_and_says_so(tmp_path):
    stale = tmp_path / "build" / "lib" / "segp_ext" / "_C.abi3.so"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"left by an earlier build")
    done = run_setup(tmp_path)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("segp_ext:")]
    assert len(said) == 1
    assert "no working C++ compiler" in said[0]
    assert "eager path" in said[0]
    assert not stale.exists()
    package = tmp_path / "build" / "lib" / "segp_ext"
    assert (package / "py.typed").is_file()
    path, reason = _native.find_library(package)
    assert "no working C++ compiler" in reason or path is not None  # an installed library may stand in


def test_without_a_compiler_a_demand_for_native_fails_clearly(tmp_path):
    done = run_setup(tmp_path, SEGP_EXT_REQUIRE_NATIVE="1")
    assert done.returncode != 0
    assert "the native library was demanded, but there is no working C++ compiler" in done.stderr


# ------------------------------------------------------------------------------------------------- loading


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
    before = _sources.source_hash(tmp_path)
    assert before == build_support.load_source_hash(ROOT)(tmp_path)
    (tmp_path / "csrc" / "notes.txt").write_text("not a source")
    assert _sources.source_hash(tmp_path) == before
    (tmp_path / "csrc" / "kernel.cpp").write_bytes(b"int kernel;\r\n")
    assert _sources.source_hash(tmp_path) == before
    (tmp_path / "csrc" / "kernel.cpp").write_text("int kernel2;\n")
    changed = _sources.source_hash(tmp_path)
    assert changed != before
    (tmp_path / "csrc" / "kernel.cpp").rename(tmp_path / "csrc" / "renamed.cpp")
    assert _sources.source_hash(tmp_path) != changed


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
    fake_library(library, source_hash=_sources.source_hash(tmp_path))
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
    fresh = _sources.source_hash(tmp_path / "checkout")
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


# ------------------------------------------------------------------------------------ the installed package


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
    if _sources.has_sources(ROOT):
        assert INFO["source_hash"] == _sources.source_hash(ROOT)
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
        "heavy = {'torchvision', 'open_clip', 'peft', 'matplotlib', 'sklearn', 'PIL', 'tqdm', 'jsonargparse'}\n"
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
