"""Measures what the gate (`inference.gate`) keeps and what it costs, on streams.

    python -m evidence.gated COMPARISON --rows ... --seeds ... --out FILE.md

COMPARISON is a folder that segp_ext.compare wrote, of a stream whose last data set stands for what is never learnt. The table looks at the
models before they learn it. "unlearnt" is the accuracy on this data set, "learnt" the mean accuracy on the others, on the path by which a
row predicts. In the setting global the names of all data sets compete, in the setting task-known the names of the image's own data set.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import get_args

from evidence.runs import arguments, of_every_run
from evidence.tables import write_table
from segp_ext.report.result import RunResult, WholeSetting
from segp_ext.report.table import spread
from segp_ext.report.verdict import predicting_row


def accuracies(run: Path) -> list[float]:
    """Returns, for each setting: zero-shot accuracy on the last task, accuracy on it before it is learnt, and on the tasks before it."""
    result = RunResult.read(run / "result.json")
    own = predicting_row(result)
    assert own is not None
    found = []
    for setting in get_args(WholeSetting):
        before, *_, unlearnt, _ = own.scores.whole[setting]
        found += [before[-1], unlearnt[-1], statistics.fmean(unlearnt[:-1])]
    return found


def main() -> None:
    """Runs the command."""
    parser = arguments("evidence.gated", __doc__)
    options = parser.parse_args()
    rows = [
        [
            "row",
            "seeds",
            *(f"{what}, {name}" for name in get_args(WholeSetting) for what in ("zero-shot", "unlearnt", "learnt")),
        ]
    ]
    for row, found in of_every_run(parser, options, accuracies).items():
        rows.append([row, str(len(found)), *(spread([one[place] for one in found]) for place in range(len(found[0])))])
    write_table(options.out, "python -m evidence.gated", rows)


if __name__ == "__main__":
    main()
