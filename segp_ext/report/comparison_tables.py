"""The numbers of a comparison as tables, and as the files results.csv, matrices.jsonl and retention.csv."""

from __future__ import annotations

import csv
import io
import json
import statistics
from typing import Any

from segp_ext.report.comparison import Comparison, Difference
from segp_ext.report.glossary import COLUMNS, GLOBAL_CAPTION, GLOBAL_COLUMNS, GLOBAL_METRICS, METRICS
from segp_ext.report.result import WholeSetting
from segp_ext.report.stream_tables import COMPETING, STREAM_COLUMNS, STREAM_METRICS, shown_settings, stream_key
from segp_ext.report.table import Table, spread

_GLOBAL = {"global_last": "global Last", **GLOBAL_METRICS}
"""Columns of the global table, by their keys in `Score.values`."""
_RAW = ("A", "R", "next_task", "global_A", "global_R")
"""Raw numbers among `Score.values`."""
_COMPARED = ("avg", "last", "forgetting")
"""Metrics whose differences stand in the table."""
PAIRED = (
    "Differences are paired by seed and stand with their 95 % confidence interval (Student's t). If many rows are compared, about one "
    "interval in twenty misses the truth by chance."
)


def tables(comparison: Comparison) -> list[Table]:
    """Makes all tables that have rows, in order."""
    settings = [setting_table(comparison, setting) for setting in shown(comparison)]
    found = [
        *settings,
        seen_table(comparison),
        global_table(comparison),
        retention_table(comparison),
        cost_table(comparison),
    ]
    return [table for table in found if table.rows]


def seen_table(comparison: Comparison) -> Table:
    """Makes the table of metrics over seen classes, one row per method and path."""
    header = ["method", "path", "seeds", *METRICS.values()]
    header += [f"{METRICS[metric]} − {comparison.reference}'s" for metric in _COMPARED]
    rows = []
    for (row, path), members in comparison.groups.items():
        apart = (comparison.difference(row, path, metric) for metric in _COMPARED)
        numbers = [spread([s.values.get(metric) for s in members]) for metric in METRICS]
        rows.append([row, path, str(len(members)), *numbers, *("–" if d is None else str(d) for d in apart)])
    caption = "Over seen classes: test accuracy in percent, mean ± standard deviation over seeds"
    return Table(caption, header, rows, {**COLUMNS, **_difference(comparison)}, names=2)


def _difference(comparison: Comparison) -> dict[str, str]:
    """Meaning of the columns of differences."""
    return {f"− {comparison.reference}'s": f"difference from {comparison.reference} on the same path, in points"}


def global_table(comparison: Comparison) -> Table:
    """Makes the table of the text path's global metrics, one row per method; it has no rows if none were measured."""
    rows = []
    for (row, path), members in comparison.groups.items():
        if any(s.values["global_last"] is not None for s in members):
            apart = comparison.difference(row, path, "global_last")
            numbers = [spread([s.values.get(metric) for s in members]) for metric in _GLOBAL]
            rows.append([row, str(len(members)), *numbers, "–" if apart is None else str(apart)])
    legend = {"global Last": "accuracy after the last task, the same as Last over seen classes", **GLOBAL_COLUMNS}
    return Table(
        GLOBAL_CAPTION, ["method", "seeds", *_GLOBAL.values(), f"global Last − {comparison.reference}'s"], rows, legend
    )


def shown(comparison: Comparison) -> list[WholeSetting]:
    """Lists the settings of evaluation to show, the leading one first; see `stream_tables.shown_settings`."""
    return next(filter(None, map(shown_settings, comparison.results.values())), [])


def setting_table(comparison: Comparison, setting: WholeSetting) -> Table:
    """Makes the table of a setting's Transfer, Avg and Last, one row per method and path."""
    keys = {stream_key(setting, metric): column for metric, column in STREAM_METRICS.items()}
    rows = []
    for (row, path), members in comparison.groups.items():
        if all(any(s.values.get(key) is not None for key in keys) for s in members):
            numbers = [spread([s.values.get(key) for s in members]) for key in keys]
            apart = (comparison.difference(row, path, key) for key in keys)
            rows.append([row, path, str(len(members)), *numbers, *("–" if d is None else str(d) for d in apart)])
    header = [
        "method",
        "path",
        "seeds",
        *keys.values(),
        *(f"{name} − {comparison.reference}'s" for name in keys.values()),
    ]
    caption = (
        f"{setting.capitalize()}: accuracy in percent where {COMPETING[setting]}; mean ± standard deviation over seeds"
    )
    return Table(caption, header, rows, {**STREAM_COLUMNS, **_difference(comparison)}, names=2)


def retention_table(comparison: Comparison) -> Table:
    """Makes the table of zero-shot accuracy on data sets that are never trained on, one row per method and data set."""
    rows = []
    for (row, name), curves in comparison.retention.items():
        first = comparison.retention.get((comparison.reference, name), {})
        apart = [curve[-1] - first[seed][-1] for seed, curve in curves.items() if seed in first]
        less = "–" if row == comparison.reference or not apart else str(Difference.of(apart))
        before, after = (spread([curve[end] for curve in curves.values()]) for end in (0, -1))
        rows.append([row, name, f"{before} (chance)" if (row, name) in comparison.chance else before, after, less])
    header = ["method", "data set", "before", "after the last task", f"− {comparison.reference}'s"]
    caption = "Retention: zero-shot accuracy of the text path on data sets that are never trained on, over their own classes, in percent"
    legend = {"(chance)": "within noise of guessing, so that there is nothing to keep"} if comparison.chance else {}
    return Table(caption, header, rows, legend, names=2)


def cost_table(comparison: Comparison) -> Table:
    """Makes the table of trained parameters, milliseconds per step and seconds per run, one row per method."""
    by_row = {row: members for (row, _), members in comparison.groups.items()}  # all paths of a run cost the same
    rows = []
    for row, members in by_row.items():
        trained = sorted({s.trained for s in members}, key=lambda number: number or 0)
        steps = [s.ms_per_step for s in members if s.ms_per_step is not None]
        step = f"{statistics.fmean(steps):.0f}" if steps else "–"
        rows.append(
            [row, " or ".join(map(_count, trained)), step, f"{statistics.fmean(s.seconds for s in members):.0f}"]
        )
    legend = {
        "trained": "parameters that the optimiser changes",
        "ms/step": "training time over optimiser steps, mean over tasks and seeds; tasks that went on after a stop are left out",
        "seconds": "a whole run, without the frozen rows; the frozen rows share theirs",
    }
    return Table("Cost. Parameters and time of each row", ["method", "trained", "ms/step", "seconds"], rows, legend)


def _count(parameters: int | None) -> str:
    """Writes a number of parameters in thousands or millions."""
    if parameters is None:
        return "–"
    return f"{parameters / 1e6:.2f} M" if parameters >= 1e6 else f"{parameters / 1e3:.1f} k"


def results_csv(comparison: Comparison) -> str:
    """Writes results.csv: one line per row, seed and path."""
    out = io.StringIO()
    facts = [
        "seconds",
        "trained_parameters",
        "ms_per_step",
        "protocol",
        "device",
        "threads",
        "torch",
        "segp_ext",
        "started",
    ]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["row", "path", "seed", *METRICS, *_GLOBAL, *facts])
    for s in comparison.scores:
        run, versions = s.run, s.run.versions
        numbers = ["" if s.values.get(m) is None else f"{s.values[m]:.6f}" for m in (*METRICS, *_GLOBAL)]
        cost = [f"{s.seconds:.1f}", s.trained or "", "" if s.ms_per_step is None else f"{s.ms_per_step:.3f}"]
        where = [run.protocol["id"], run.device, run.threads, versions["torch"], versions["segp_ext"], run.started]
        writer.writerow([s.row, s.path, s.seed, *numbers, *cost, *where])
    return out.getvalue()


def matrices_jsonl(comparison: Comparison) -> str:
    """Writes matrices.jsonl, the accuracies behind all metrics: one line of JSON per row, seed and path.

    A line holds A, R, next_task, global_A and global_R as `segp_ext.report.result.PathResult` names them, as fractions. The entry settings
    has R of each setting of evaluation, where it was measured.
    """
    found = []
    for s in comparison.scores:
        raw = {key: _rounded(s.values[key]) for key in _RAW if s.values.get(key)}
        if whole := s.values.get("settings"):
            raw["settings"] = {name: _rounded(numbers["R"]) for name, numbers in whole.items()}
        found.append(json.dumps({"row": s.row, "path": s.path, "seed": s.seed, **raw}))
    return "\n".join(found) + "\n"


def _rounded(value: Any) -> Any:
    return [_rounded(one) for one in value] if isinstance(value, list) else value if value is None else round(value, 6)


def retention_csv(comparison: Comparison) -> str:
    """Writes retention.csv: one line per row, data set, seed and number of tasks learnt."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["row", "data_set", "seed", "tasks", "accuracy"])
    for (row, name), curves in comparison.retention.items():
        for seed, curve in curves.items():
            writer.writerows([row, name, seed, tasks, f"{value:.6f}"] for tasks, value in enumerate(curve))
    return out.getvalue()
