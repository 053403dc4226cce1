"""Imports go downwards through the layers, and never in a circle: at the top, in a function, or for types alone."""

from __future__ import annotations

import ast
from pathlib import Path

from segp_ext import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
LAYERS = (
    "commands",
    "serving",
    "run",
    "method",
    "report",
    "storage",
    "data",
    "clip",
    "ops",
    "reference",
    "config",
    "runtime",
)
"""The packages of segp_ext, the highest first; commands are the modules in its own folder. One imports lower ones alone."""


def imports(folder: Path) -> dict[str, set[str]]:
    """The modules below a package's folder, and which of them each one imports; the package itself, which loads names late, left out."""
    files = {}
    for file in sorted(folder.rglob("*.py")):
        parts = file.relative_to(folder.parent).with_suffix("").parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    root = folder.name
    found: dict[str, set[str]] = {}
    for module, file in files.items():
        package = module if file.name == "__init__.py" else module.rpartition(".")[0]
        names: set[str] = set()
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                steps = package.split(".")
                above = ".".join(steps[: len(steps) - node.level + 1]) if node.level else ""
                base = ".".join(filter(None, (above, node.module)))
                names |= {name if (name := f"{base}.{alias.name}") in files else base for alias in node.names}
        found[module] = {name for name in names if name in files and name not in (root, module)}
    return found


def circle(edges: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle, the first one again at the end; empty if there are none."""
    done: set[str] = set()

    def walk(module: str, way: list[str]) -> list[str]:
        if module in way:
            return [*way[way.index(module) :], module]
        if module in done:
            return []
        for other in sorted(edges.get(module, ())):
            if found := walk(other, [*way, module]):
                return found
        done.add(module)
        return []

    return next((found for module in sorted(edges) if (found := walk(module, []))), [])


def upward(edges: dict[str, set[str]]) -> list[str]:
    """Imports of a higher layer's module, as "importing module → imported one"."""

    def layer(module: str) -> int:
        parts = module.split(".")
        return LAYERS.index(parts[1]) if parts[1] in LAYERS[1:] else 0

    return [
        f"{module} → {other}"
        for module, others in sorted(edges.items())
        if module.count(".")
        for other in sorted(others)
        if layer(other) < layer(module)
    ]


def test_imports_go_downwards():
    edges = imports(ROOT / "segp_ext")
    assert upward(edges) == []
    folders = {path.parent.name for path in (ROOT / "segp_ext").glob("*/__init__.py")}
    assert folders == set(LAYERS[1:])
    commands = {module.split(".")[1] for module in edges if module.count(".") == 1} - folders
    assert commands == {"__main__", *COMMANDS}


def test_an_import_upwards_is_seen(tmp_path):
    package = tmp_path / "segp_ext"
    for name in ("data", "run"):
        (package / name).mkdir(parents=True)
        (package / name / "__init__.py").write_text("")
    (package / "__init__.py").write_text("from segp_ext.run import start\n")
    (package / "train.py").write_text("from segp_ext.run import start\n")
    (package / "run/start.py").write_text("from segp_ext.data import folder\n")
    (package / "data/folder.py").write_text("")
    assert upward(imports(package)) == []
    (package / "data/folder.py").write_text("def look():\n    from ..run.start import other\n")
    assert upward(imports(package)) == ["segp_ext.data.folder → segp_ext.run.start"]
    (package / "data/folder.py").write_text("import segp_ext.train\n")
    assert upward(imports(package)) == ["segp_ext.data.folder → segp_ext.train"]


def test_no_module_imports_itself_around_others():
    assert circle(imports(ROOT / "segp_ext")) == []


def test_a_circle_is_seen_wherever_the_import_stands(tmp_path):
    package = tmp_path / "segp_ext"
    (package / "inside").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "one.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from segp_ext.inside import two\n"
    )
    (package / "inside/__init__.py").write_text("from .two import name\n")
    (package / "inside/two.py").write_text("def name():\n    from ..three import other\n")
    (package / "three.py").write_text("import os\n")
    assert circle(imports(package)) == []
    (package / "three.py").write_text("from segp_ext.one import other\n")
    assert set(circle(imports(package))) == {"segp_ext.one", "segp_ext.inside.two", "segp_ext.three"}
