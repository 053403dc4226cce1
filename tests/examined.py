"""Examinations of a folder of images with the built-in model."""

from __future__ import annotations

from pathlib import Path

from segp_ext.run import command_line
from segp_ext.run.examination import Report, examine


def examined(root: Path, *arguments: str, quick: bool = False) -> Report:
    """What `segp doctor` finds in a folder, under the settings of the arguments."""
    given = ["--config=clip", "--model.name=glyph", f"--data.root={root}", *arguments]
    return examine(command_line.parse(given), quick)
