"""The folder of an evaluation: report.html with all of it, and its numbers and pictures as files of their own."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from segp_ext.data.decoding import to_pil
from segp_ext.report import evaluation_tables as tables
from segp_ext.report.contact_sheet import Captioned, captioned, contact_sheet, sheet_html
from segp_ext.report.evaluation_result import FILE, Evaluation
from segp_ext.report.page import Page
from segp_ext.report.svg_calibration import calibration_picture
from segp_ext.report.svg_confusion import MOST_CLASSES, confusion_picture
from segp_ext.report.svg_file import svg_file
from segp_ext.report.table import Link, Table
from segp_ext.storage import sealed

_WORST = 20
"""Rows of the tables of classes and of confusions, if there are many classes."""
WHAT = "an evaluation"
"""The kind of folder, in words."""


def write(out: Path, found: Evaluation, pictures: Sequence[Captioned]) -> None:
    """Writes the folder of an evaluation, whole or not at all, and replaces an older evaluation.

    Args:
        out: The folder.
        found: The evaluation.
        pictures: Pictures of its mistakes, as `mistake_pictures` makes them.

    Raises:
        FileExistsError: If `out` holds other things than an evaluation.
        OSError: Naming the file that could not be written.
    """
    sealed.check_replaceable(out, FILE, WHAT)
    sealed.seal(out, _files(found, pictures), lambda written: Evaluation.read(written / FILE))


def _files(found: Evaluation, pictures: Sequence[Captioned]) -> Mapping[str, bytes]:
    """Makes the contents of the files by name."""
    files = {
        FILE: found.to_json(),
        "confusion.csv": tables.confusion_csv(found),
        "calibration.svg": svg_file(_calibration_drawn(found)),
    }
    if len(found.class_names) <= MOST_CLASSES:
        files["confusion.svg"] = svg_file(_confusion_drawn(found))
    if pictures:
        files["mistakes.jpg"] = contact_sheet(pictures)
    files["report.html"] = page(found, pictures, sorted(files)).html().encode("utf-8", "backslashreplace")
    return files


def mistake_pictures(found: Evaluation, base: Path, upright: bool) -> list[Captioned]:
    """Opens the images of an evaluation's mistakes again; one that is gone meanwhile is left out.

    Args:
        found: The evaluation.
        base: The folder that names of files begin at.
        upright: Whether to turn images by their EXIF orientation.
    """
    pictures = []
    for one in found.mistakes:
        lines = [
            f"{one.true} → {one.predicted}",
            f"{100 * one.probability:.0f} % {one.predicted}, {100 * one.own:.0f} % {one.true}",
            os.path.basename(one.file),
        ]
        try:
            pictures.append(captioned(to_pil(base / one.file, one.file, upright), lines))
        except (OSError, ValueError):
            continue
    return pictures


def page(found: Evaluation, pictures: Sequence[Captioned], files: Sequence[str]) -> Page:
    """Puts an evaluation on one page.

    Args:
        found: The evaluation.
        pictures: Pictures of its mistakes.
        files: Names of the files beside the page.
    """
    made = Page(f"{found.learner} on {found.folder}", found.layout)
    made.lead(" ".join(tables.verdict(found)))
    if found.unread:
        made.text(f"{len(found.unread)} image(s) could not be read and count nowhere; they are listed below.")
    summary = tables.summary_table(found)
    made.table(Table("", summary.header, summary.rows))
    made.terms(summary.legend)
    _classes(made, found)
    _calibration(made, found)
    _unknown(made, found)
    _mistakes(made, found, pictures)
    _read(made, found, files)
    return made


def _classes(made: Page, found: Evaluation) -> None:
    """Adds the accuracy of each class and the confusion matrix."""
    made.heading("Accuracy of each class")
    table, count = tables.class_table(found), len(found.class_names)
    if len(table.rows) <= MOST_CLASSES:
        made.table(table)
    else:
        caption = f"The {_WORST} classes with the lowest accuracy, in percent"
        made.table(Table(caption, table.header, table.rows[:_WORST], words=table.words))
        made.fold(f"All {len(table.rows)} classes").table(table)
    without = [name for name, own in zip(found.class_names, found.class_accuracy, strict=True) if own is None]
    if without:
        made.text(f"Learnt classes without an image in the folder: {', '.join(without)}.")
    beside = made.columns()
    if count <= MOST_CLASSES:
        caption = "Confusion matrix: rows are true classes, columns predicted ones"
        beside.figure(caption, _confusion_drawn(found), "confusion.svg")
    confusions = tables.confusion_table(found, 10 if count <= MOST_CLASSES else _WORST)
    if confusions.rows:
        beside.table(confusions)


def _confusion_drawn(found: Evaluation) -> str:
    count = len(found.class_names)
    return confusion_picture(found.confusion, found.class_names, [count], f"Confusion matrix of {found.learner}")


def _calibration(made: Page, found: Evaluation) -> None:
    """Adds the calibration plot."""
    made.heading("How far probabilities can be trusted")
    fit = found.calibration
    made.text(
        "Images are sorted into 15 bins by the probability of their best name. On the diagonal, names are right as often as they are sure. "
        "Below it, the learner is too sure; above it, not sure enough."
    )
    if fit.temperature == 1:  # exactly: none was fitted
        made.text("This learner has no temperature of its own: it held no images back (`calibration.fraction`).")
    made.figure("Share of right names by the probability of the name", _calibration_drawn(found), "calibration.svg")


def _calibration_drawn(found: Evaluation) -> str:
    fit = found.calibration
    if not fit.changes:
        return calibration_picture([(f"{found.path} path", fit.after)], f"Calibration of {found.learner}")
    series = [(f"temperature {tables.temperature_text(fit.temperature)}", fit.after), ("temperature 1", fit.before)]
    return calibration_picture(series, f"Calibration of {found.learner}")


def _unknown(made: Page, found: Evaluation) -> None:
    """Adds the detection of unknown classes, if the folder has any."""
    if found.unknown is None:
        return
    made.heading("Classes that were not learnt")
    made.text(
        f"{found.unknown.images:,} images belong to {len(found.unknown.classes)} class(es) that the learner does not know. They enter no "
        "accuracy. A low AUROC means that images of the class look like learnt ones."
    )
    made.table(tables.unknown_table(found))


def _mistakes(made: Page, found: Evaluation, pictures: Sequence[Captioned]) -> None:
    """Adds pictures of the worst mistakes."""
    made.heading("Worst mistakes")
    if not found.mistakes:
        made.text("No image got a wrong name.")
        return
    made.text(
        "Wrong names with the highest probabilities, true class → name. Such an image may also have a wrong label."
    )
    if pictures:
        made.html_only().figure("The surest wrong names first", sheet_html(pictures))


def _read(made: Page, found: Evaluation, files: Sequence[str]) -> None:
    """Adds what was read, what was left out, and the files beside the page."""
    made.heading("What was read")
    made.text(f"Folder `{found.folder}`: {found.layout}. Scores are of the path {found.path}.")
    if found.unread:
        made.text(f"Left out, {len(found.unread)} image(s):")
        made.items([f"{one.file}: {one.error}" for one in found.unread[:_WORST]])
        more = len(found.unread) - _WORST
        if more > 0:
            made.text(f"{more} more are named in `{FILE}`.")
    made.text(f"Made with {', '.join(f'{name} {version}' for name, version in found.versions.items())}.")
    made.items([Link(name, name) for name in files])
