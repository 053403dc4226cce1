"""Runs that are killed and gone on with, compared with one that was not."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from victims import Victim, Victims

LAST = ("learner.safetensors", "learner.json", "adapter_model.safetensors", "adapter_config.json")
"""The files of the last checkpoint that must be the same to the byte."""
TIMES = {"name", "phases", "started", "updated", "resumed"}
"""What may differ between the results of two equal runs."""


def findings(run: Path) -> dict[str, Any]:
    """Everything in a finished run's folder that must not depend on what happened to it on the way."""
    result = json.loads((run / "result.json").read_text())
    del result["settings"]["run"]["name"]
    for task in result["tasks"]:
        del task["phases"]
    weights = {name: (run / "checkpoints/latest" / name).read_bytes() for name in LAST}
    return {**{key: value for key, value in result.items() if key not in TIMES}, **weights}


class Trial:
    """One set of arguments: the uninterrupted run, and runs that are killed.

    Args:
        victims: where they run.
        arguments: of `segp_ext.train`, without those of the folder.
        every: `run.checkpoint_steps` among them.
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
        """The write points that the uninterrupted run passes, by their names for a run called `cut`."""
        return [name.replace(" whole", " cut", 1) for name in self.whole.passed if name.split()[1].startswith("whole")]

    def survives(
        self,
        *,
        point: tuple[str, int] | None = None,
        after: float | None = None,
        full: bool = False,
        damage: Callable[[Path], None] | None = None,
    ) -> str:
        """Ends a run, goes on with it, and compares; returns what happened in a line, or fails with what is wrong.

        Args:
            point, after, full: where and how it ends; see `Victims.run`.
            damage: what happens to its folder before it goes on.
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
        if not (path / "config.yaml").exists():  # killed before it was a run; its name must be free
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
        """Steps that were done twice; all are done, and no more than `limit` of them again."""
        assert {*killed.steps, *resumed.steps} == {*self.whole.steps}
        again = sum((Counter(killed.steps) & Counter(resumed.steps)).values())
        assert limit is None or again <= limit, f"{again} steps were done again"
        return again
