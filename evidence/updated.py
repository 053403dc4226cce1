"""Measures what known classes gain and lose by images in new looks (`known_classes: update`).

    python -m evidence.updated COMPARISON --rows ... --seeds ... --out FILE.md

COMPARISON is a folder that segp_ext.compare wrote, of a stream of the same classes in several looks. The table shows the accuracy on each
look, on the path by which a row predicts: after the first look alone, as without an update, and after all looks were taken up.
"""

from __future__ import annotations

from pathlib import Path

from evidence.runs import arguments, of_every_run
from evidence.tables import write_table
from segp_ext.report.result import RunResult
from segp_ext.report.stream_tables import task_names
from segp_ext.report.table import spread
from segp_ext.report.verdict import predicting_row


def accuracies(run: Path) -> dict[str, list[float]]:
    """Returns the accuracies on all looks after the first task and after the last, by look."""
    result = RunResult.read(run / "result.json")
    own = predicting_row(result)
    assert own is not None
    matrix = own.scores.whole["task-known"]
    return {look: [row[place] for row in (matrix[1], matrix[-1])] for place, look in enumerate(task_names(result))}


def main() -> None:
    """Runs the command."""
    parser = arguments("evidence.updated", __doc__)
    options = parser.parse_args()
    rows: list[list[str]] = []
    for row, found in of_every_run(parser, options, accuracies).items():
        rows = rows or [["row", "learnt", *found[0]]]
        for place, learnt in enumerate(("the first look", "all looks")):
            rows.append([row, learnt, *(spread([one[look][place] for one in found]) for look in found[0])])
    write_table(options.out, "python -m evidence.updated", rows)


if __name__ == "__main__":
    main()
