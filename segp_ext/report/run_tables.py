"""The numbers of a run as tables and sentences, for the terminal and the page alike."""

from __future__ import annotations

from segp_ext.report.glossary import COLUMNS, GLOBAL_CAPTION, GLOBAL_COLUMNS, GLOBAL_METRICS, METRICS
from segp_ext.report.metrics import within_chance
from segp_ext.report.result import RunResult
from segp_ext.report.table import Table, percent

SEEN_CAPTION = "Over seen classes: accuracy in percent on the test images of classes learnt so far"


def seen_table(result: RunResult) -> Table:
    """Makes the table of accuracies and metrics over seen classes."""
    done = max((len(row.scores.pooled) for row in result.scores), default=0)
    cells = []
    for row in result.scores:
        pooled, found = row.scores.pooled, row.scores.metrics() if row.scores.pooled else {}
        shown = [percent(a) for a in pooled] + ["–"] * (done - len(pooled))
        cells.append([row.name, *shown, *(percent(found.get(key)) for key in METRICS)])
    header = ["row", *(f"A{i + 1}" for i in range(done)), *METRICS.values()]
    legend = {**COLUMNS, f"A1 to A{done}" if done > 1 else "A1": "accuracy after each task"}
    return Table(SEEN_CAPTION, header, cells, legend, optional=range(1, done + 1))


def global_table(result: RunResult) -> Table:
    """Makes the table of global accuracies and metrics; it has no rows if none were measured."""
    measured = [row for row in result.scores if row.scores.global_pooled]
    length = max((len(row.scores.global_pooled) for row in measured), default=0)
    cells = []
    for row in measured:
        pooled, found = row.scores.global_pooled, row.scores.global_metrics()
        shown = [percent(a) for a in pooled] + ["–"] * (length - len(pooled))
        cells.append([row.name, *shown, *(percent(found[key]) for key in GLOBAL_METRICS)])
    header = ["row", *(f"G{i}" for i in range(length)), *GLOBAL_METRICS.values()]
    before = "accuracy before the first task (G0), which enters none of the three metrics, and after each"
    legend = {f"G0 to G{length - 1}": before, **GLOBAL_COLUMNS}
    return Table(GLOBAL_CAPTION, header, cells, legend, optional=range(1, length + 1))


def sentences(result: RunResult) -> list[str]:
    """Writes what the tables do not hold: held-out data sets, time by phase, and passes of compiled encoders."""
    return [*retention(result), phases(result), *passes(result)]


def retention(result: RunResult) -> list[str]:
    """Writes a line per held-out data set with its zero-shot accuracies, and a note for each one within chance."""
    lines = [
        f"Zero-shot accuracy on {name} (never trained on), in percent: {percent(accuracies[0])} before the first task, "
        f"{', '.join(map(percent, accuracies[1:])) or 'none yet'} after each"
        for name, accuracies in result.retention.items()
    ]
    return [*lines, *chance(result)]


def is_chance(result: RunResult, name: str) -> bool:
    """Tells whether guessing gives the accuracy on a held-out data set before the first task (`metrics.within_chance`)."""
    facts = result.protocol["held_out"][name]
    return within_chance(result.retention[name][0], facts["images"], facts["classes"])


def chance(result: RunResult) -> list[str]:
    """Writes a note for each held-out data set whose classes the untouched model cannot tell apart."""
    lines = []
    for name, accuracies in result.retention.items():
        classes = result.protocol["held_out"][name]["classes"]
        if is_chance(result, name):
            lines.append(
                f"note: {percent(accuracies[0])} % on {name} before the first task is within noise of guessing among its {classes} "
                f"class{'es' if classes > 1 else ''} ({percent(1 / classes)} %): there is no zero-shot accuracy to keep"
            )
    return lines


def phases(result: RunResult) -> str:
    """Writes the time by phase, each beside its ratio to the time of the backbone's own passes, which is 1 at best."""
    parts = []
    for name, phase in result.phases.items():
        ratio = f" ({phase.wall / phase.backbone:.2f}×)" if phase.backbone else ""
        parts.append(f"{name} {phase.wall:.1f} s{ratio}")
    return f"Time by phase (× the time of the backbone's own passes): {', '.join(parts)}"


def passes(result: RunResult) -> list[str]:
    """Writes a line on how many passes of the encoders ran compiled; none for a run without compiled encoders."""
    counts = result.passes
    if not counts:
        return []
    line = f"Compiled: {counts['total'] - counts['eager']:,} of the encoders' {counts['total']:,} passes"
    if counts["eager"]:
        line += f"; torch could not compile the other {counts['eager']:,}, which ran eager (TORCH_LOGS=recompiles,graph_breaks says why)"
    return [line]
