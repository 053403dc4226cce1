"""The verdict: what a run or a comparison shows, in two or three sentences."""

from __future__ import annotations

import math

from segp_ext.report.comparison import ENOUGH_PAIRS, Comparison, Difference
from segp_ext.report.result import Row, RunResult
from segp_ext.report.table import percent, signed

_NAMED = 4
"""Rows that a sentence names; it counts the others."""
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def of_run(result: RunResult) -> list[str]:
    """Says what a run's method gained or lost against the frozen rows, and whether one run can tell."""
    own = predicting_row(result)
    if own is None or not own.scores.pooled:
        return ["No task is learnt yet, so there is nothing to compare."]
    done, last = len(own.scores.pooled), own.scores.pooled[-1]
    frozen = [row for row in result.scores if row.is_baseline and len(row.scores.pooled) >= done]
    incremental = " over seen classes" if "setting" in result.protocol else ""
    begin = f"After {_counted(done, 'task')}{incremental}, "
    begin += f"{result.method} ({own.path} path) gets {percent(last)} % of the test images right"
    if not frozen:
        return [f"{begin}.", "The run holds no frozen rows to compare with."]
    zero_shot = [row for row in frozen if row.method == "zero-shot"]
    heads = [row for row in frozen if row.method != "zero-shot"]
    compared = zero_shot + sorted(heads, key=lambda row: -row.scores.pooled[done - 1])[:1]
    said = []
    for row in compared:
        other = row.scores.pooled[done - 1]
        best = ", the best frozen head" if len(heads) > 1 and row in heads else ""
        said.append(f"{_apart(last - other)} {row.name} ({percent(other)} %{best})")
    return [*_leading(result, own), f"{begin}: {' and '.join(said)}.", *_one_run(own, compared)]


def _leading(result: RunResult, own: Row) -> list[str]:
    """Says Transfer, Avg and Last in the setting of evaluation that leads the tables, where it is not class-incremental."""
    setting = result.protocol.get("setting")
    if setting is None or len(own.scores.whole.get(setting, ())) < 2:
        return []
    rows = [own, *(row for row in result.scores if row.method == "zero-shot" and setting in row.scores.whole)]
    numbers = [[percent(value) for value in row.scores.stream_metrics(setting).values()] for row in rows]
    said = ", ".join(f"{row.name} {'/'.join(found)}" for row, found in zip(rows, numbers, strict=True))
    return [f"In the setting {setting}, Transfer/Avg/Last in percent are: {said}."]


def predicting_row(result: RunResult) -> Row | None:
    """Finds the row of the path by which the method predicts; None if it was not measured."""
    path = result.settings.get("inference", {}).get("path", "dual")
    return next((row for row in result.own if row.path == path), None)


def _one_run(own: Row, compared: list[Row]) -> list[str]:
    """Says which gaps the choice of test images may explain, each against its own bound, and that one run cannot tell more."""
    said = []
    images = sum(count for *_, count in own.scores.confusion)
    if images:
        done, last = len(own.scores.pooled), own.scores.pooled[-1]
        others = [row.scores.pooled[done - 1] for row in compared]
        reach = [sampling_half(last, other, images) for other in others]
        bounds = " and ".join(
            f"of up to {percent(half)}{'' if place else ' points'} to {row.name}"
            for place, (row, half) in enumerate(zip(compared, reach, strict=True))
        )
        inside = [
            row.name for row, other, half in zip(compared, others, reach, strict=True) if abs(last - other) <= half
        ]
        small = (
            f"the gap to {' and the gap to '.join(inside)} {'is' if len(inside) == 1 else 'are'} that small"
            if inside
            else ""
        )
        large = "the gap is larger" if len(compared) == 1 else "both gaps are larger"
        said += [
            f"With {images:,} test images, a gap {bounds} may be chance: {small or large}.",
            f"{'This is an upper bound' if len(compared) == 1 else 'These are upper bounds'} at 95 %, as a run does not keep which "
            "images each row gets right.",
        ]
    return [*said, "One run cannot tell what another seed or class order would give; segp_ext.compare runs several."]


def sampling_half(one: float, other: float, images: int) -> float:
    """Computes the largest possible half of the 95 % interval of a difference of two accuracies on the same images.

    Let b be the share of images that only one row gets right, and c the share that only the other gets right. The difference is b - c,
    with the variance (b + c - (b - c)^2) / images, as in McNemar's test. The accuracies alone leave b + c open. It is largest where the
    rows share as few right and as few wrong images as they can.

    Args:
        one: accuracy, as a fraction.
        other: accuracy to compare with, as a fraction.
        images: number of test images.
    """
    apart = min(one + other, 2 - one - other)
    return 1.96 * math.sqrt(max(apart - (one - other) ** 2, 0.0) / images)


def _apart(difference: float) -> str:
    """Writes a signed difference in words, to stand before a row's name."""
    points = percent(abs(difference))
    if points == "0.0":
        return "level with"
    return f"{points} points {'above' if difference > 0 else 'below'}"


def of_comparison(comparison: Comparison) -> list[str]:
    """Says which rows differ from the reference in Last, which do not, and for which there are too few seeds to tell.

    Each row stands with the path by which it predicts, as a table's differences are between equal paths.
    """
    reference = comparison.reference
    others = [row for row in comparison.all_rows if row != reference]
    if reference not in comparison.rows:
        return [f"{reference} has no finished run, so that the other rows have nothing to be compared with."]
    if not others:
        return [f"{reference} stands alone: there is no other row to compare it with."]
    first = f"{reference} ({comparison.path_of(reference)})"
    paths = {row: str(comparison.path_of(row)) for row in others}
    found = {row: difference for row in others if (difference := comparison.predicted_difference(row, "last"))}
    few = {row: d for row, d in found.items() if d.pairs < ENOUGH_PAIRS}
    told = {row: d for row, d in found.items() if d.pairs >= ENOUGH_PAIRS}
    clear = {row: d for row, d in told.items() if d.is_clear}
    level = {row: d for row, d in told.items() if not d.is_clear}
    said = []
    above = {row: d for row, d in clear.items() if d.mean > 0}
    below = {row: d for row, d in clear.items() if d.mean < 0}
    begin = f"Over {_counted(max((d.pairs for d in told.values()), default=0), 'seed')}, "
    for rows, where in ((above, "above"), (below, "below")):
        if rows:
            end = "ends" if len(rows) == 1 else "end"
            said.append(f"{begin}{_named(rows, paths)} {end} {where} {first} after the last task.")
            begin = ""
    if level:
        said.append(f"{begin}{'no' if begin else 'No'} difference from {first} can be told for {_named(level, paths)}.")
    if few:
        count = max(d.pairs for d in few.values())
        which = ", ".join(f"{row} ({paths[row]})" for row in [*few][:_NAMED]) if told else "any row"
        verb = "is" if count == 1 else "are"
        said.append(f"{_counted(count, 'seed').capitalize()} {verb} too few to tell {which} from {first}.")
        if not told:
            said.append(f"So far the differences after the last task are: {_named(few, paths, intervals=False)}.")
    missing = [row for row in others if row not in found]
    if missing:
        said.append(f"No seed is shared by {reference} and {', '.join(missing[:_NAMED])}.")
    return said


def _named(found: dict[str, Difference], paths: dict[str, str], intervals: bool = True) -> str:
    """Names rows with their paths and differences in points, the largest first. Counts the rows that are too many for a sentence."""
    order = sorted(found, key=lambda row: -abs(found[row].mean))
    parts: list[str] = []
    for row in order[:_NAMED]:
        points = signed(100 * found[row].mean) + ("" if parts else " points")
        behind = f", {found[row].interval()}" if intervals else ""
        parts.append(f"{row} ({paths[row]}; {(points + behind).replace('-', '−')})")
    more = len(order) - len(parts)
    if more:
        parts.append(f"{more} more row{'' if more == 1 else 's'}")
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _counted(number: int, noun: str) -> str:
    """Writes a number and its noun; small numbers in words."""
    return f"{_NUMBERS[number] if number < len(_NUMBERS) else number} {noun}{'' if number == 1 else 's'}"
