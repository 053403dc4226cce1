"""No file grows until nobody knows its duty: at most 400 lines, and 150 for a command."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CODE = {".py", ".cpp", ".h", ".cu", ".cuh"}
FOLDERS = ("segp_ext", "tests", "csrc", "python", "benchmarks", "evidence", "examples", "scripts")


def too_long(root: Path) -> list[str]:
    """Names the files of code that are above their limit, and files that are called utils."""
    found = []
    for folder in FOLDERS:
        for file in sorted(path for path in (root / folder).rglob("*") if path.suffix in CODE):
            limit = 150 if file.parent == root / "segp_ext" else 400
            lines = len(file.read_text(encoding="utf-8").splitlines())
            if lines > limit or file.stem in ("util", "utils", "misc"):
                found.append(f"{file.relative_to(root)}: {lines} lines, at most {limit}")
    return found


def test_no_file_is_too_long():
    assert too_long(ROOT) == []


def test_a_long_file_is_seen(tmp_path):
    (tmp_path / "segp_ext/run").mkdir(parents=True)
    (tmp_path / "segp_ext/train.py").write_text("\n" * 151)
    (tmp_path / "segp_ext/run/run.py").write_text("\n" * 400)
    assert too_long(tmp_path) == ["segp_ext/train.py: 151 lines, at most 150"]
    (tmp_path / "segp_ext/run/run.py").write_text("\n" * 401)
    (tmp_path / "segp_ext/run/utils.py").write_text("")
    assert len(too_long(tmp_path)) == 3
