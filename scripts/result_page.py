"""The page about result.json, with its JSON Schema: `python scripts/result_page.py > docs/result.md`."""

from __future__ import annotations

import dataclasses
import json
import sys
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from segp_ext.report.result import FORMAT, Row, RunResult


def schema() -> dict[str, Any]:
    """result.json as JSON Schema (draft 2020-12)."""
    numbers = {"type": "array", "items": {"type": "number", "minimum": 0, "maximum": 1}}
    or_none = {"type": ["number", "null"]}
    named = "avg", "last", "forgetting", "bwt", "fwt", "global_fwt", "global_bwt", "global_forgetting"
    row = {
        "type": "object",
        "required": ["method", "path", "baseline", "A", "R", "next_task"],
        "properties": {
            "method": {"type": "string"},
            "path": _schema(get_type_hints(Row)["path"]),
            "baseline": {"type": "boolean"},
            **dict.fromkeys(named, or_none),
            **dict.fromkeys(("A", "global_A"), numbers),
            **{name: {"type": "array", "items": numbers} for name in ("R", "global_R")},
            "next_task": {"type": "array", "items": or_none},
        },
    }
    whole = _schema(RunResult)
    whole["properties"] = {"format": {"const": FORMAT}, **whole["properties"]}
    whole["properties"]["scores"] |= {"type": "object", "additionalProperties": row}
    whole["properties"]["scores"].pop("items")
    whole["required"] = ["format", *whole["required"]]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"segp_ext result.json, format {FORMAT}",
        **whole,
    }


_JSON = {str: "string", int: "integer", float: "number", bool: "boolean", NoneType: "null"}


def _schema(kind: Any) -> dict[str, Any]:
    """A type as JSON Schema."""
    inside = get_args(kind)
    if dataclasses.is_dataclass(kind):
        hints, abouts = get_type_hints(kind), _abouts(kind)
        properties = {}
        for f in dataclasses.fields(kind):
            properties[f.name] = _schema(hints[f.name])
            if f.name in abouts:
                properties[f.name]["description"] = abouts[f.name]
        needed = [f.name for f in dataclasses.fields(kind) if f.default is f.default_factory is dataclasses.MISSING]
        return {"type": "object", "required": needed, "properties": properties, "additionalProperties": False}
    if get_origin(kind) is list:
        return {"type": "array", "items": _schema(inside[0])}
    if get_origin(kind) is dict:
        return {"type": "object", **({} if inside[1] is Any else {"additionalProperties": _schema(inside[1])})}
    if get_origin(kind) is Literal:
        return {"enum": list(inside)}
    if get_origin(kind) in (Union, UnionType):
        return {"type": [_JSON[option] for option in inside]}
    return {"type": _JSON[kind]}


def _abouts(kind: Any) -> dict[str, str]:
    """What a dataclass says of its fields."""
    hints = get_type_hints(kind, include_extras=True)
    return {name: hint.__metadata__[0] for name, hint in hints.items() if get_origin(hint) is Annotated}


def page() -> str:
    """The page about result.json, in Markdown."""
    entries = "\n".join(f"| `{name}` | {about} |" for name, about in _abouts(RunResult).items())
    return f"""# result.json

What a run has found, in the run's folder and in each of its checkpoints. Accuracies are fractions, times are seconds. This is format
{FORMAT}, which the entry `format` says; segp_ext refuses every other one. Made by `python scripts/result_page.py`.

| entry | what it holds |
| --- | --- |
{entries}

From Python: `segp_ext.report.result.RunResult.read(path)`.

## JSON Schema

```json
{json.dumps(schema(), indent=1, ensure_ascii=False)}
```
"""


if __name__ == "__main__":
    sys.stdout.write(page())
