"""An evaluation's verdict and tables, for the terminal and the page alike, and its confusion matrix as CSV."""

from __future__ import annotations

import csv
import io

from segp_ext.report.confusion import frequent_confusions, image_counts
from segp_ext.report.evaluation_result import Evaluation
from segp_ext.report.metrics import share_interval
from segp_ext.report.table import Cell, Share, Table, percent
from segp_ext.report.terminal import shown, wrapped

WORST = 5
"""Classes that the terminal shows."""


def verdict(found: Evaluation) -> list[str]:
    """Says in two sentences how much is right, and how far the probabilities can be trusted."""
    low, high = share_interval(found.accuracy, found.images)
    measured = [accuracy for accuracy in found.class_accuracy if accuracy is not None]
    first = (
        f"{found.learner} ({found.path} path) gets {percent(found.accuracy)} % of {found.images:,} images of "
        f"{_counted(len(measured), 'learnt class', 'learnt classes')} right (95 % interval {percent(low)} to {percent(high)})"
    )
    if len(measured) > 1 and min(measured) < max(measured):
        worst = min(measured)
        names = [name for name, own in zip(found.class_names, found.class_accuracy, strict=True) if own == worst]
        first += f"; the worst class is {names[0]} with {percent(worst)} %"
    fit = found.calibration
    second = f"Its probabilities are off by {percent(fit.error_after)} points on average"
    if fit.changes:
        second += f", {percent(fit.error_before)} without its temperature"
    if found.unknown is not None:
        classes = _counted(len(found.unknown.classes), "unknown class", "unknown classes")
        area = percent(found.unknown.area_under_curve)
        second += f"; an image of a learnt class looks more known than one of {classes} in {area} % of pairs"
    return [f"{first}.", f"{second}."]


def temperature_text(temperature: float) -> str:
    """Writes a temperature with three digits, and without an exponent where it is large."""
    return f"{temperature:.3g}" if temperature < 100 else f"{temperature:,.0f}"


def summary_table(found: Evaluation) -> Table:
    """Makes the table of what was measured."""
    fit, unknown = found.calibration, found.unknown
    rows: list[list[Cell]] = [
        ["accuracy over learnt classes", percent(found.accuracy)],
        ["mean accuracy of classes", percent(found.mean_class_accuracy)],
        ["ECE at temperature 1", percent(fit.error_before)],
        [f"with the learner's, {temperature_text(fit.temperature)}", percent(fit.error_after)],
    ]
    legend = {
        "ECE": "expected calibration error, the mean gap between the probability of an image's best name and the share of right names, "
        "over 15 bins; lower is better"
    }
    if not fit.changes:
        rows[2:] = [["ECE", percent(fit.error_after)]]
    if unknown is not None:
        rows += [
            ["AUROC of unknown classes", percent(unknown.area_under_curve)],
            ["FPR95", percent(unknown.false_positive_rate)],
        ]
        legend |= {
            "AUROC": "how often an image of a learnt class looks more known than one of an unknown class; guessing gives 50",
            "FPR95": "unknown images taken for known ones, where 95 % of the known ones are taken as known; lower is better",
        }  # fmt: skip
    return Table("In percent", ["measure", "%"], rows, legend)


def class_table(found: Evaluation) -> Table:
    """Makes the table of learnt classes that have images, the lowest accuracy first."""
    images = image_counts(found.confusion)
    mistaken: dict[int, tuple[int, int]] = {}
    for true, guess, count in frequent_confusions(found.confusion, len(found.confusion)):
        mistaken.setdefault(true, (guess, count))
    rows: list[list[Cell]] = []
    order = sorted(images, key=lambda place: (found.class_accuracy[place], place))
    for place in order:
        guess, count = mistaken.get(place, (place, 0))
        accuracy = found.class_accuracy[place]
        assert accuracy is not None
        taken = [found.class_names[guess], str(count)] if count else ["–", "–"]
        rows.append([found.class_names[place], str(images[place]), Share(accuracy), *taken])
    header = ["class", "images", "% right", "most often taken for", "times"]
    return Table("Percent of each class's images that are right", header, rows, words=[3])


def confusion_table(found: Evaluation, limit: int) -> Table:
    """Makes the table of the most frequent confusions, at most `limit` of them."""
    names, images = found.class_names, image_counts(found.confusion)
    rows = [
        [names[true], names[guess], str(count), percent(count / images[true])]
        for true, guess, count in frequent_confusions(found.confusion, limit)
    ]
    header = ["true class", "predicted class", "images", "% of the class"]
    return Table("Most frequent confusions", header, rows, names=2)


def unknown_table(found: Evaluation) -> Table:
    """Makes the table of unknown classes, the one detected worst first; without rows if there are none."""
    classes = [] if found.unknown is None else found.unknown.classes
    rows: list[list[Cell]] = [
        [one.name, str(one.images), Share(one.area_under_curve), one.named, str(one.times)] for one in classes
    ]
    header = ["unknown class", "images", "AUROC", "most often taken for", "times"]
    return Table("Classes of the folder that were not learnt", header, rows, words=[3])


def evaluation_text(found: Evaluation) -> str:
    """Writes what the terminal shows: the verdict, the summary, and the worst classes."""
    classes = class_table(found)
    worst = Table("The classes with the lowest accuracy, in percent", classes.header, classes.rows[:WORST])
    return "\n\n".join([wrapped(" ".join(verdict(found))), shown(summary_table(found)), shown(worst)])


def confusion_csv(found: Evaluation) -> bytes:
    """Writes the confusion matrix: a row for each true class, a column for each predicted one, both in the learner's order."""
    counts = {(true, guess): count for true, guess, count in found.confusion}
    places = range(len(found.class_names))
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["true class", *found.class_names])
    for true in places:
        rows.writerow([found.class_names[true], *(counts.get((true, guess), 0) for guess in places)])
    return text.getvalue().encode("utf-8", "backslashreplace")


def _counted(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"
