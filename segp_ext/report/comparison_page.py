"""The page of a comparison: report.html and summary.md, with the files of numbers and plots beside them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from segp_ext.config import ScorePath
from segp_ext.report import comparison_plots, comparison_tables, glossary, verdict
from segp_ext.report.comparison import ENOUGH_PAIRS, Comparison, Score, mean_curve, mean_matrix
from segp_ext.report.confusion import class_accuracy
from segp_ext.report.metrics import forgetting_curve
from segp_ext.report.page import Page, table_html
from segp_ext.report.run_page import matrix_tables
from segp_ext.report.svg_chart import Axis, Line, line_chart
from segp_ext.report.svg_interval import interval_bar
from segp_ext.report.table import Cell, Drawn, Link, Share, Table, spread
from segp_ext.runtime.timing import Phase
from segp_ext.storage.sealed import write_atomically

_MOST_CLASSES, _WORST = 40, 20
"""Most classes that the page shows at once, and how many of more classes."""
Curve = Callable[[Score], Sequence[float]]


def write(folder: Path, comparison: Comparison) -> None:
    """Writes summary.md, report.html, results.csv, matrices.jsonl and plots/; with held-out data sets, retention.csv too."""
    made = page(comparison, comparison_plots.plot(comparison, folder / "plots"))
    files = {
        "results.csv": comparison_tables.results_csv(comparison),
        "matrices.jsonl": comparison_tables.matrices_jsonl(comparison),
        **({"retention.csv": comparison_tables.retention_csv(comparison)} if comparison.retention else {}),
        "summary.md": made.markdown(),
        "report.html": made.html(),
    }
    for name, content in files.items():
        write_atomically(folder / name, content.encode())


def page(comparison: Comparison, pictures: dict[str, str]) -> Page:
    """Puts a comparison on one page.

    Args:
        comparison: the runs.
        pictures: captions of the PNG plots by file name, for Markdown.
    """
    count = f"{len(comparison.rows)} methods" if len(comparison.rows) > 1 else comparison.rows[0]
    seeds = comparison.seeds
    made = Page(f"{count}, seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}", f"`{comparison.command}`")
    made.lead(" ".join(verdict.of_comparison(comparison)))
    _differences(made, comparison)
    _tables(made, comparison)
    _curves(made, comparison, pictures)
    _matrices(made, comparison, pictures)
    _classes(made, comparison)
    _retention(made, comparison, pictures)
    _time(made, comparison, pictures)
    _runs(made, comparison)
    return made


def _picture(pictures: dict[str, str], name: str) -> str | None:
    """Gives the path of a PNG plot that Markdown links to; None if it was not drawn."""
    return f"plots/{name}" if name in pictures else None


def _differences(made: Page, comparison: Comparison) -> None:
    """Adds the picture of each row's difference from the reference."""
    found = {row: comparison.predicted_difference(row, "last") for row in comparison.all_rows}
    known = {row: d for row, d in found.items() if d is not None}
    if not known:
        return
    # The axis is as wide as the methods need; a frozen row that is far off gets an arrow.
    shown = [d for row, d in known.items() if row in comparison.rows] or [*known.values()]
    reach = max(0.005, *(abs(d.mean) + (d.half if d.pairs >= ENOUGH_PAIRS else 0.0) for d in shown))
    rows: list[list[Cell]] = []
    for row in (comparison.reference, *sorted(known, key=lambda row: -known[row].mean)):
        lasts = spread([s.values["last"] for s in comparison.predictions(row)])
        bar = Drawn(interval_bar(known[row], reach) if row in known else "")
        rows.append([row, bar, str(known[row]) if row in known else "–", lasts, str(comparison.path_of(row))])
    axis = f"−{100 * reach:.1f} 0 +{100 * reach:.1f}"
    header = ["method", axis, f"− {comparison.reference}'s", "Last", "path"]
    caption = f"Accuracy after the last task against {comparison.reference}, each row on the path by which it predicts"
    made.html_only().table(Table(caption, header, rows, words=[4]))
    made.text(comparison_tables.PAIRED)


def _tables(made: Page, comparison: Comparison) -> None:
    """Adds the tables of numbers, with the meaning of their columns, rows and paths."""
    headings = {
        comparison_tables.seen_table: "Accuracy over seen classes",
        comparison_tables.global_table: "Global accuracy, future tasks included",
        comparison_tables.retention_table: "Zero-shot accuracy on held-out data sets",
        comparison_tables.cost_table: "Cost",
    }
    for setting in comparison_tables.settings_in_order(comparison):
        _table(made, f"Every task, {setting}", comparison_tables.setting_table(comparison, setting))
    for make, heading in headings.items():
        if not _table(made, heading, make(comparison)):
            continue
        if make is comparison_tables.seen_table:
            made.text("The methods and the frozen rows that every run measures beside its method:")
            made.terms({row: glossary.row_meaning(row) for row in comparison.all_rows})
            made.text("The paths by which a model scores an image:")
            made.terms({path: glossary.PATHS[path] for path in comparison.paths})


def _table(made: Page, heading: str, table: Table) -> bool:
    """Adds a table with its heading and legend, if it has rows; tells whether it has."""
    if table.rows:
        made.heading(heading)
        made.table(table)
        if table.legend:
            made.terms(table.legend)
    return bool(table.rows)


def _lines(comparison: Comparison, groups: dict[str, list[Score]], read: Curve) -> list[Line]:
    """Makes a line of means per row with a band of one standard deviation; a row keeps its colour in all charts."""
    lines = []
    for row, members in groups.items():
        means, deviations = mean_curve([[100 * value for value in read(s)] for s in members])
        frozen = bool(members) and members[0].baseline
        lines.append(Line(row, means, deviations, comparison.all_rows.index(row), frozen))
    return lines


def _of_path(comparison: Comparison, path: ScorePath) -> dict[str, list[Score]]:
    """Collects the scores of a path by row, methods first."""
    return {row: comparison.groups[row, path] for row in comparison.all_rows if (row, path) in comparison.groups}


def _curves(made: Page, comparison: Comparison, pictures: dict[str, str]) -> None:
    """Adds the curves over tasks: by the path by which each row predicts, and folded, by every path."""
    made.heading("After each task")
    made.text(
        "Mean over seeds, with a band of one standard deviation. Each row is drawn on the path by which it predicts."
    )
    predicting = {row: comparison.predictions(row) for row in comparison.all_rows}
    accuracy = Axis("Accuracy over all classes seen", "% right")
    loss = Axis("Forgetting", "points lost", first=2)
    beside = made.columns()
    drawn = line_chart(_lines(comparison, predicting, lambda s: s.values["A"]), accuracy)
    beside.figure(pictures.get("accuracy.png", accuracy.title), drawn, _picture(pictures, "accuracy.png"))
    forgets = max(len(s.values["A"]) for s in comparison.scores) > 1
    if forgets:
        drawn = line_chart(_lines(comparison, predicting, lambda s: forgetting_curve(s.values["R"])), loss)
        beside.figure("Forgetting after each task", drawn, _picture(pictures, "forgetting.png"))
    measured = {
        row: members
        for row, members in _of_path(comparison, "text").items()
        if any(s.values["global_last"] is not None for s in members)
    }
    if measured:
        axis = Axis("Global accuracy of the text path", "% right", first=0)
        drawn = line_chart(_lines(comparison, measured, lambda s: s.values.get("global_A") or []), axis)
        beside.figure(pictures.get("global.png", axis.title), drawn, _picture(pictures, "global.png"))
    every = made.fold("The same on every path").columns()
    for path in comparison.paths:
        groups = _of_path(comparison, path)
        title = f"Accuracy over all classes seen, {path} path"
        every.figure(title, line_chart(_lines(comparison, groups, lambda s: s.values["A"]), Axis(title, "% right")))
        if forgets:
            title = f"Forgetting, {path} path"
            chart = line_chart(
                _lines(comparison, groups, lambda s: forgetting_curve(s.values["R"])),
                Axis(title, "points lost", first=2),
            )
            every.figure(title, chart)


def _matrices(made: Page, comparison: Comparison, pictures: dict[str, str]) -> None:
    """Adds the mean matrix R of each row."""
    made.heading("Accuracy on each task")
    made.text(
        "Each row of numbers comes after one more task, each column is one task's test images, scored over all classes seen by then. Mean "
        "over seeds; a seed has an order of classes of its own, unless the settings fix it."
    )
    matrices = {
        f"{row}, {comparison.path_of(row)} path": mean_matrix(members)
        for row in comparison.all_rows
        if (members := comparison.predictions(row))
    }
    caption = pictures.get("r_matrix.png", "Percent right on each task's test images after each task")
    made.figure(caption, matrix_tables(matrices), _picture(pictures, "r_matrix.png"))


def _classes(made: Page, comparison: Comparison) -> None:
    """Adds the accuracy of each class by row, if it was counted."""
    table = class_table(comparison)
    if not table.rows:
        return
    part = made.html_only()
    part.heading("Accuracy of each class")
    part.text(
        f"Mean over seeds, on the path by which each row predicts; the classes that are worst for {table.header[1]} come first. A "
        "run's own page has its confusion matrix."
    )
    if len(table.rows) <= _MOST_CLASSES:
        part.table(table)
    else:
        caption = f"The {_WORST} classes with the lowest accuracy, in percent"
        part.table(replace(table, caption=caption, rows=table.rows[:_WORST]))
        part.fold(f"All {len(table.rows)} classes").table(table)


def class_table(comparison: Comparison) -> Table:
    """Makes the table of each class's accuracy by row, the class that is worst for the reference first.

    Rows without confusions are left out, as results of earlier versions have none; so are classes that some row lacks.
    """
    found: dict[str, dict[str, list[float]]] = {}
    for row in [comparison.reference, *(row for row in comparison.all_rows if row != comparison.reference)]:
        for score in comparison.predictions(row):
            accuracies = class_accuracy(score.values.get("confusion", []))
            for name, accuracy in zip(score.run.class_names, accuracies, strict=False):
                if accuracy is not None:
                    found.setdefault(row, {}).setdefault(name, []).append(accuracy)
    means = {row: {name: statistics.fmean(of) for name, of in classes.items()} for row, classes in found.items()}
    shared = [name for name in next(iter(means.values()), {}) if all(name in classes for classes in means.values())]
    first = next(iter(means), "")
    rows: list[list[Cell]] = [
        [name, *(Share(classes[name], "heat", 0) for classes in means.values())]
        for name in sorted(shared, key=lambda name: means[first][name])
    ]
    return Table("Percent of each class's test images that are right", ["class", *means], rows)


def _retention(made: Page, comparison: Comparison, pictures: dict[str, str]) -> None:
    """Adds the curves of zero-shot accuracy on held-out data sets."""
    if not comparison.retention:
        return
    made.heading("Held-out data sets after each task")
    beside = made.columns()
    for number, name in enumerate(dict.fromkeys(name for _, name in comparison.retention)):
        lines = []
        for row in (row for row, of in comparison.retention if of == name):
            curves = [[100 * value for value in curve] for curve in comparison.retention[row, name].values()]
            lines.append(Line(row, *mean_curve(curves), comparison.all_rows.index(row)))
        axis = Axis(f"Zero-shot accuracy on {name}", "% right over its own classes", first=0)
        beside.figure(axis.title, line_chart(lines, axis), _picture(pictures, "retention.png") if number == 0 else None)


def _time(made: Page, comparison: Comparison, pictures: dict[str, str]) -> None:
    """Adds the seconds of each phase by row."""
    made.heading("Time by phase")
    made.text("Seconds of a run, mean over seeds.")
    phases = list(dict.fromkeys(phase for result in comparison.results.values() for phase in result.phases))
    spent = {}
    for row in comparison.rows:
        runs = [result for (of, _), result in comparison.results.items() if of == row]
        spent[row] = [statistics.fmean(run.phases.get(phase, Phase()).wall for run in runs) for phase in phases]
    rows = [[row, *(f"{one:.1f}" for one in seconds), f"{sum(seconds):.1f}"] for row, seconds in spent.items()]
    table = Table("", ["method", *phases, "all"], rows)
    made.figure("Time by phase", table_html(table), _picture(pictures, "time.png"))
    made.terms({phase: glossary.PHASES[phase] for phase in phases if phase in glossary.PHASES})


def _runs(made: Page, comparison: Comparison) -> None:
    """Adds links to the page of each run, and what the runs were made with."""
    made.heading("The runs")
    rows: list[list[Cell]] = []
    for row in comparison.rows:
        links = [comparison.results.get((row, seed)) for seed in comparison.seeds]
        rows.append([row, *(Link(f"seed {run.seed}", f"runs/{run.name}/report.html") if run else "–" for run in links)])
    made.html_only().table(Table("Page of each run", ["method", *(f"seed {seed}" for seed in comparison.seeds)], rows))
    identities = dict.fromkeys(result.protocol["id"] for result in comparison.results.values())
    made.text("Protocols: " + ", ".join(f"`{identity}`" for identity in identities))
    versions = dict.fromkeys(
        (name, r.versions[name]) for r in comparison.results.values() for name in ("segp_ext", "torch")
    )
    made.text("Made with " + ", ".join(f"{name} {version}" for name, version in sorted(versions)))
    files = ["results.csv", "matrices.jsonl", *(["retention.csv"] if comparison.retention else [])]
    made.items([Link(name, name) for name in files])
