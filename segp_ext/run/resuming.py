"""Resuming a run: the checkpoint to go on from, and what must be as it was at the run's start."""

from __future__ import annotations

import dataclasses
import json
import warnings
from pathlib import Path

import torch

from segp_ext.clip.backbone import Backbone
from segp_ext.config import RESUMABLE, Config, dotted
from segp_ext.report.result import Resumption, RunResult
from segp_ext.run.directory import RunDirectory, SavedRun, checkpoint_after
from segp_ext.runtime.processes import Processes

_FREE_FACTS = ("id", "hash", "changed", "data", "layout", "weights")
"""Facts of a protocol that say where things are. The weights are compared by themselves."""
_FREE_SETTINGS = (*RESUMABLE, "model.", "data.", "loading.", "run.", "held_out")
"""Beginnings of settings that may differ: the facts of the protocol tell whether their effect is the same."""


def find_saved(
    directory: Path, held: RunDirectory | None, processes: Processes, device: torch.device
) -> SavedRun | None:
    """Reads the newest whole checkpoint of a run, the same one in all processes; None if the run stopped before its first.

    Args:
        directory: Folder of the run.
        held: The same folder, held by the main process; None in the others.
        processes: Processes that share the run.
        device: Device for the tensors that processes exchange.

    Raises:
        ValueError: If there are checkpoints, but all of them are damaged.
    """
    saved = None if held is None else held.load()
    found = -1 if saved is None else len(saved.learner.task_sizes)
    done = int(processes.sum(torch.tensor(found if processes.is_main else 0, device=device)))
    if done < 0:
        return None
    return saved or SavedRun.read(checkpoint_after(directory, done))


def take_over(saved: SavedRun, now: RunResult, backbone: Backbone, directory: Path) -> RunResult:
    """Checks that a run can go on here. Returns its result until now, with a note of the resumption.

    Warns if versions, device, threads or processes differ from the start of the run.

    Args:
        saved: Checkpoint of the run.
        now: Result of a new run under the present settings.
        backbone: The model as it was loaded now.
        directory: Folder of the run, for messages.

    Raises:
        ValueError: If the data, the settings, the model or the code of one's own parts changed since the start.
    """
    saved.learner.check_weights(backbone)
    before = saved.result
    changed = _changed(before, now)
    if changed:
        raise ValueError(
            f"{directory} cannot go on: since its start these changed: {', '.join(changed)}; put them back, or start a new run"
        )
    then, here = (
        {**result.versions, "device": result.device, "threads": result.threads, "processes": result.processes}
        for result in (before, now)
    )
    apart = [f"{key} {then.get(key)} → {value}" for key, value in here.items() if then.get(key) != value]
    if apart:
        text = f"changed since the start of the run: {', '.join(apart)}; numbers may differ by rounding"
        warnings.warn(text, RuntimeWarning, stacklevel=2)
    before.resumed.append(Resumption(len(saved.learner.task_sizes), now.started, now.device))
    return before


def _changed(before: RunResult, now: RunResult) -> list[str]:
    """Names the facts, settings and files of code that are not as they were."""
    protocol = json.loads(json.dumps(now.protocol))  # as a file holds it: tuples become lists
    facts = [key for key, value in protocol.items() if key not in _FREE_FACTS and before.protocol.get(key) != value]
    defaults = dotted(dataclasses.asdict(Config()))  # values of settings that are newer than the run
    was, settings = {**defaults, **dotted(before.settings)}, dotted(now.settings)
    changed = [key for key, value in settings.items() if was.get(key) != value and not key.startswith(_FREE_SETTINGS)]
    rows = "data.evaluate_global"  # the one free setting on which the rows of a result depend
    if was[rows] != settings[rows]:
        changed.append(rows)
    code = [f"the code of {name}" for name, digest in now.code.items() if before.code.get(name, digest) != digest]
    return [*facts, *code, *changed]
