"""Writes the page about result.json, with its JSON Schema: `python scripts/result_page.py > docs/result.md`."""

from __future__ import annotations

import dataclasses
import json
import sys
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from segp_ext.report.result import FORMAT, Row, RunResult


def schema() -> dict[str, Any]:
    """Makes the JSON Schema of result.json (draft 2020-12)."""
    numbers = {"type": "array", "items": {"type": "number", "minimum": 0, "maximum": 1}}
    or_none = {"type": ["number", "null"]}
    entry = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 3, "maxItems": 3}
    named = "avg", "last", "forgetting", "bwt", "fwt", "global_fwt", "global_bwt", "global_forgetting"
    whole_matrix = {"R": {"type": "array", "items": numbers}, **dict.fromkeys(("transfer", "avg", "last"), or_none)}
    setting = {"type": "object", "required": ["R"], "properties": whole_matrix}
    row = {
        "type": "object",
        "required": ["method", "path", "baseline", "A", "R", "next_task"],
        "properties": {
            "method": {"type": "string"},
            "path": _schema(get_type_hints(Row)["path"]),
            "baseline": {"type": "boolean"},
            **dict.fromkeys(named, or_none),
            **dict.fromkeys(("A", "global_A"), numbers),
            **{name: {"type": "array", "items": numbers} for name in ("R", "global_R", "calibration_error")},
            **{name: {"type": "array", "items": or_none} for name in ("next_task", "class_accuracy")},
            "confusion": {"type": "array", "items": entry},
            "settings": {"type": "object", "additionalProperties": setting},
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
    """Makes the JSON Schema of a type."""
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
    """Collects the descriptions that a dataclass gives its fields."""
    hints = get_type_hints(kind, include_extras=True)
    return {name: hint.__metadata__[0] for name, hint in hints.items() if get_origin(hint) is Annotated}


def page() -> str:
    """Returns the page about result.json, in Markdown."""
    entries = "\n".join(f"| `{name}` | {about} |" for name, about in _abouts(RunResult).items())
    return f"""# result.json

The findings of a run, in the run's folder and in each of its checkpoints. Accuracies are fractions, times are seconds. The entry
`format` says {FORMAT}; segp_ext refuses every other format. `python scripts/result_page.py` makes this page.

Format {FORMAT} gained four entries: `class_names`, and in each row of `scores` the entries `class_accuracy`, `confusion` and
`calibration_error`. Results of earlier versions lack these entries, and segp_ext still reads them. Metrics and `class_accuracy` are written
for people and other programs. segp_ext computes them from the other numbers when it reads a result.

| entry | content |
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
