"""No function takes more than seven parameters; settings and states travel in objects."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MOST = 7
FOLDERS = ("segp_ext", "evidence", "benchmarks", "scripts", "tests", "examples", "python")


def parameters(source: str) -> dict[str, int]:
    """How many parameters each function takes, itself and its class left out, by its line and name."""
    found = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
            found[f"{node.lineno}: {node.name}"] = sum(
                argument is not None and argument.arg not in ("self", "cls") for argument in given
            )
    return found


def test_functions_take_few_parameters():
    files = [*ROOT.glob("*.py"), *(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py"))]
    assert {"setup.py", Path(__file__).name} <= {file.name for file in files}
    many = {
        f"{file.relative_to(ROOT)}:{place}": count
        for file in files
        for place, count in parameters(file.read_text(encoding="utf-8")).items()
        if count > MOST
    }
    assert many == {}


def test_all_kinds_of_parameters_count():
    assert parameters("class A:\n def f(self, a, /, b, *c, d, **e): pass") == {"2: f": 5}


def test_functions_of_one_name_are_told_apart():
    source = "class A:\n def __init__(self, a, b): pass\nclass B:\n def __init__(self): pass"
    assert parameters(source) == {"2: __init__": 2, "4: __init__": 0}
