"""Shows what is built and seen on this machine, and the faults of a data set: `segp doctor`."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence

import torch

from segp_ext.data.messages import several
from segp_ext.run.command_line import parse
from segp_ext.run.examination import DataReport, Report, examine
from segp_ext.runtime.progress import plain_warnings, run_command

DESCRIPTION = """\
Show what is built, and which devices and versions are seen. Then examine a data set: its layout, the images of each split and class,
missing and stray files, unreadable images, duplicates. Then try whether a run could begin: the model, its weights, the prompts of all
classes, the held-out data sets. A note names classes whose names mean nothing to the model. Takes every setting of
python -m segp_ext.train. Without any setting it examines the built-in digits.

Exit status: 0 if nothing is wrong, 1 if there are problems (listed at the end), 2 for settings that do not exist or do not fit.

examples:
  python -m segp_ext.doctor
  python -m segp_ext.doctor --data.root photos
  python -m segp_ext.doctor --protocol segp-cub200 --data.root DIR --quick
"""
FLAGS = {
    "--quick": "Open neither images nor model, and so look for no unreadable images, duplicates or prompts that do not fit.",
    "--classes": "List the images of every class, however many classes there are.",
}
"""Options of this command alone, with their meanings."""
SHOWN = 20
"""Number of classes up to which each class is listed without `--classes`."""


def text(report: Report, all_classes: bool = False) -> str:
    """Formats a report as aligned text.

    Args:
        report: What `segp_ext.run.examination.examine` found.
        all_classes: Whether to list every class, however many there are.
    """
    blocks = [_block("Machine", report.environment), _block("Settings", report.settings)]
    for data in report.data:
        blocks.append(_block("Data set", _data_rows(data)))
        if all_classes or len(data.class_names) <= SHOWN:
            counts = zip(data.class_names, *data.parts.values(), strict=True)
            rows = {name: " + ".join(f"{count:,}" for count in of_class) for name, *of_class in counts}
            published = " + validation" if "validation" in data.parts else ""
            blocks.append(_block(f"Images of each class, training + test{published}", rows))
    blocks += [f"note: {note}" for note in report.notes]
    if report.problems:
        listed = [f"  {number}. {problem}" for number, problem in enumerate(report.problems, start=1)]
        blocks.append("\n".join([f"{len(report.problems)} problem(s)", *listed]))
    else:
        unopened = any(data.contents is None for data in report.data)
        blocks.append("No problems found" + (" (images and model not opened)." if unopened else "."))
    return "\n\n".join(blocks)


def _block(title: str, rows: dict[str, str]) -> str:
    width = max(map(len, rows))
    return "\n".join([title, *(f"  {name.ljust(width)}  {value}" for name, value in rows.items())])


def _data_rows(data: DataReport) -> dict[str, str]:
    rows = {"name": data.name, "layout": data.layout, "classes": str(len(data.class_names))}
    for part, counts in data.parts.items():
        low, high, middle = min(counts), max(counts), statistics.median(counts)
        rows[part] = f"{sum(counts):,} images; per class {low:,} to {high:,}, median {middle:g}"
        if low < high:
            fewest = sorted(zip(counts, data.class_names, strict=True), key=lambda pair: pair[0])[:3]
            rows[f"{part}, fewest"] = ", ".join(f"{name} ({count:,})" for count, name in fewest)
    if data.tasks:
        sizes = [f"{classes} ({train:,} + {test:,})" for classes, train, test in data.tasks]
        rows["tasks"] = f"{len(sizes)}; classes (training + test images) of each: {several(sizes, 5)}"
    rows["missing files"] = _counted(data.missing)
    rows["stray files"] = _counted(data.stray)
    if data.stray:
        rows["stray files"] += " (no images, or in no class folder; left alone)"
    contents = data.contents
    if contents is None:
        rows["images"] = "not opened (--quick)"
        return rows
    unreadable = [f"{name} ({reason})" for name, reason in contents.unreadable.values()]
    rows["unreadable"] = f"{_counted(unreadable)}; {contents.opened:,} images opened"
    if contents.turned:
        how = "turned upright" if contents.upright else "taken as stored unless --loading.orientation exif"
        rows["turned by EXIF"] = f"{_counted(contents.turned)} ({how})"
    rows["test images in train"] = _counted([f"{a} = {b}" for a, b in contents.across])
    for part, groups in contents.within.items():
        rows[f"duplicates in {part}"] = _counted([" = ".join(group[:3]) for group in groups])
    if contents.contradicting:
        rows["same image, two classes"] = f"{contents.contradicting:,}"
    return rows


def _counted(items: list[str]) -> str:
    return f"{len(items):,}: {several(items)}" if items else "none"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: Arguments; by default the process's arguments.

    Returns:
        Exit status, as `DESCRIPTION` says.
    """
    plain_warnings()
    arguments = sys.argv[1:] if argv is None else argv
    config = parse(arguments, "doctor", DESCRIPTION, FLAGS)
    if config.run.threads is not None:
        torch.set_num_threads(config.run.threads)
    try:
        report = examine(config, quick="--quick" in arguments)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    print(text(report, all_classes="--classes" in arguments))
    return 1 if report.problems else 0


if __name__ == "__main__":
    run_command(main)
