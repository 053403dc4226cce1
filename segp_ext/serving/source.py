"""The folder that a learner to be exported was loaded from: its checksum, and the result of the run beside it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

from segp_ext.report.result import RunResult
from segp_ext.storage import sealed


@dataclass(frozen=True)
class Source:
    """Where a learner was loaded from.

    Attributes:
        sha256: checksum of the checkpoint's list of checksums, which changes with every change of a file.
        result: result of the run up to this learner; None if there is none beside it.
    """

    sha256: str
    result: RunResult | None


def read_source(checkpoint: Path, class_names: tuple[str, ...]) -> Source:
    """Reads where a learner was loaded from.

    A run's result is in the checkpoint itself. `result.json` is looked for in the folder and, for a run's checkpoint, in the run's folder.
    A result of other classes is left out.

    Args:
        checkpoint: folder of the saved learner.
        class_names: classes that the learner has learnt.
    """
    checkpoint = sealed.recovered(checkpoint.resolve())
    above = [checkpoint.parent.parent] if checkpoint.parent.name == "checkpoints" else []
    places = [checkpoint / "run.json", *(folder / "result.json" for folder in (checkpoint, *above))]
    for file in places:
        if file.is_file():
            try:
                result = RunResult.read(file)
            except (OSError, ValueError) as error:
                warnings.warn(f"{error}; its numbers are left out", RuntimeWarning, stacklevel=2)
                continue
            if [name for task in result.tasks for name in task.classes] == [*class_names]:
                return Source(sealed.identity(checkpoint), result)
    return Source(sealed.identity(checkpoint), None)
