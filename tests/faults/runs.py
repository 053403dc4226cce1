"""Kills runs, resumes them, and compares them with an uninterrupted run."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from victims import Victim, Victims

LAST = ("learner.safetensors", "learner.json", "adapter_model.safetensors", "adapter_config.json")
"""Files of the last checkpoint that must be the same, byte for byte."""
TIMES = {"name", "phases", "started", "updated", "resumed"}
"""Entries of result.json that may differ between two equal runs."""


def findings(run: Path) -> dict[str, Any]:
    """Reads everything in a finished run's folder that must be the same whether it was interrupted or not."""
    result = json.loads((run / "result.json").read_text())
    del result["settings"]["run"]["name"]
    for task in result["tasks"]:
        del task["phases"]
    weights = {name: (run / "checkpoints/latest" / name).read_bytes() for name in LAST}
    weights["learner.json"] = re.sub(rb'"learnt": "[^"]*"', b"", weights["learner.json"])  # date and time
    return {**{key: value for key, value in result.items() if key not in TIMES}, **weights}


class Trial:
    """An uninterrupted run, to compare interrupted runs of the same arguments with.

    Args:
        victims: starts the runs.
        arguments: arguments of `segp_ext.train`, without the run's folder and `run.checkpoint_steps`.
        every: value of `run.checkpoint_steps`.
    """

    def __init__(self, victims: Victims, arguments: list[str], every: int) -> None:
        self.victims, self.every, self.count = victims, every, 0
        self.arguments = [
            *arguments,
            f"--run.directory={victims.folder}",
            f"--run.checkpoint_steps={every}",
            "--run.threads=1",
        ]
        self.whole = victims.run([*self.arguments, "--run.name=whole"])
        assert self.whole.status == 0, self.whole.output
        self.expected = findings(victims.folder / "whole")

    def points(self) -> list[str]:
        """Lists the write points that the uninterrupted run passed, by their names in a run called `cut`."""
        return [name.replace(" whole", " cut", 1) for name in self.whole.passed if name.split()[1].startswith("whole")]

    def survives(
        self,
        *,
        point: tuple[str, int] | None = None,
        after: float | None = None,
        full: bool = False,
        damage: Callable[[Path], None] | None = None,
    ) -> str:
        """Interrupts a run, resumes it, and asserts that it ends like the uninterrupted run.

        Args:
            point: see `Victims.run`.
            after: see `Victims.run`.
            full: see `Victims.run`.
            damage: takes the run's folder, and damages it before the run is resumed.

        Returns:
            One line that says what happened.
        """
        path = self.victims.folder / "cut"
        shutil.rmtree(path, ignore_errors=True)
        killed = self.victims.run([*self.arguments, "--run.name=cut"], point=point, after=after, full=full)
        while after is not None and killed.status == 0:  # it was faster than the uninterrupted run
            shutil.rmtree(path)
            after = 0.95 * min(after, killed.seconds)
            killed = self.victims.run([*self.arguments, "--run.name=cut"], after=after)
        if full:
            assert killed.status == 2 and "No space left on device" in killed.output, killed.output
            assert "Traceback" not in killed.output
        else:
            assert killed.status == -9, f"not killed: {killed.output}"
        if damage is not None:
            damage(path)
        going_on = ["--resume", str(path)]
        if not (path / "config.yaml").exists():  # killed before the run was made: its name must be free again
            going_on = [*self.arguments, "--run.name=cut"]
        resumed = self.victims.run(going_on)
        assert resumed.status == 0, resumed.output
        assert damage is None or "is damaged" in resumed.output, f"taken without a word: {resumed.output}"
        found = findings(path)
        apart = [key for key in self.expected if found.get(key) != self.expected[key]]
        assert not apart, f"differ after {point or after}: {apart}"
        again = self.redone(killed, resumed, None if damage else self.every)
        left = [entry.name for folder in (path, path / "checkpoints") for entry in folder.glob(".*")]
        assert not left and not list(path.glob("checkpoints/learning-*")), f"left behind: {left}"
        return f"killed after {killed.seconds:.1f} s, {len(killed.steps)} steps; {again} redone"

    def redone(self, killed: Victim, resumed: Victim, limit: int | None) -> int:
        """Counts the steps that were done twice; asserts that all steps were done, and at most `limit` of them again."""
        assert {*killed.steps, *resumed.steps} == {*self.whole.steps}
        again = sum((Counter(killed.steps) & Counter(resumed.steps)).values())
        assert limit is None or again <= limit, f"{again} steps were done again"
        return again
