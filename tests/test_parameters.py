"""No function of the package takes more than seven parameters; settings and states travel in objects."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MOST = 7


def parameters(source: str) -> dict[str, int]:
    """How many parameters each function takes, itself and its class left out."""
    found = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            found[node.name] = sum(argument.arg not in ("self", "cls") for argument in given)
    return found


def test_functions_take_few_parameters():
    files = [
        file for folder in ("segp_ext", "evidence", "benchmarks", "scripts") for file in (ROOT / folder).rglob("*.py")
    ]
    counted = {
        f"{file.relative_to(ROOT)}: {name}": n for file in files for name, n in parameters(file.read_text()).items()
    }
    many = {name: count for name, count in counted.items() if count > MOST}
    assert many == {}


def test_all_kinds_of_parameters_count():
    assert parameters("class A:\n def f(self, a, /, b, *, c): pass") == {"f": 3}
