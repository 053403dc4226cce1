"""Rows of a comparison: methods, each with the settings in which it differs, and lists of such rows."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from segp_ext.config.settings_files import PRESETS

_LONGEST = 200
"""Most bytes of a row's label in the name of its run's folder; a file system takes 255 in all."""


@dataclass(frozen=True)
class Row:
    """A method, and the settings in which it differs from the other rows.

    Attributes:
        label: The method's name and its settings, as in "lora training.classes=new".
    """

    label: str

    @property
    def method(self) -> str:
        """Name of the method."""
        return self.label.split()[0]

    @property
    def changes(self) -> list[str]:
        """The settings in which the row differs, each as NAME=VALUE."""
        return self.label.split()[1:]

    def of_seed(self, seed: int) -> Row:
        """Returns the row with a seed in the place of every `{seed}`."""
        return Row(self.label.replace("{seed}", str(seed)))

    def arguments(self) -> list[str]:
        """Returns the row as arguments of `segp train`."""
        return ["--method", self.method, *(f"--{change}" for change in self.changes)]

    def folder(self, out: Path, seed: int) -> Path:
        """Returns the folder of the row's run under one seed, within the folder of a comparison."""
        name = re.sub(r"[^\w.=-]+", "-", self.label)
        if len(name.encode()) > _LONGEST:
            cut = name.encode()[: _LONGEST - 9].decode(errors="ignore")
            name = f"{cut}-{hashlib.sha256(self.label.encode()).hexdigest()[:8]}"
        return out / "runs" / f"{name}-{seed}"


def packaged_rows() -> list[str]:
    """Returns the names of the lists of rows that come with the package."""
    return sorted(f"paper/{path.stem}" for path in PRESETS.glob("paper/*.yaml"))


def read_rows(name: str) -> list[str]:
    """Reads the labels of the rows that a YAML list holds.

    Args:
        name: Name of a file, or one of `packaged_rows`.

    Raises:
        FileNotFoundError: If there is neither.
        ValueError: If the file holds no list of strings.
    """
    file = Path(name) if Path(name).is_file() or name not in packaged_rows() else PRESETS / f"{name}.yaml"
    if not file.is_file():
        raise FileNotFoundError(f"there is no such file; lists in the package: {', '.join(packaged_rows())}")
    try:
        rows = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"the file is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(rows, list) or not rows or not all(isinstance(row, str) and row.strip() for row in rows):
        raise ValueError("the file must hold a list of methods, as in `- segp anchors.steps=20`")
    return rows


def check_rows(labels: Sequence[str], taken: Iterable[tuple[str, str]]) -> None:
    """Checks that rows can stand in one comparison.

    Args:
        labels: Labels of the rows.
        taken: Settings that no row may hold, each with the option of the comparison that says it.

    Raises:
        ValueError: If a row is empty, sets what an option says, stands twice, or would share its folder with another row.
    """
    if not all(label.strip() for label in labels):
        raise ValueError("--methods must hold methods; got an empty string")
    for name, option in taken:
        for label in labels:
            if any(change.startswith(f"{name}=") for change in Row(label).changes):
                raise ValueError(f"--methods: {label!r} sets {name}; here {option} says that")
    folders: dict[Path, str] = {}
    for label in labels:
        other = folders.setdefault(Row(label).folder(Path(), 0), label)
        if other != label:
            raise ValueError(
                f"--methods: {other!r} and {label!r} would share a folder; add a setting to one of them that tells them apart"
            )
    twice = [label for number, label in enumerate(labels) if label in labels[:number]]
    if twice:
        raise ValueError(f"--methods holds {twice[0]!r} twice")
