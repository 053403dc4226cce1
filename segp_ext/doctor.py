"""What is built and seen on this machine, and what is wrong with a data set: `python -m segp_ext.doctor`."""

from __future__ import annotations

import hashlib
import io
import os
import statistics
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image

import segp_ext
from segp_ext import train
from segp_ext.config import Config, with_method
from segp_ext.data import Collection, load_collection
from segp_ext.data.folder import several
from segp_ext.data.scenario import make_scenario
from segp_ext.progress import plain_warnings, progress
from segp_ext.protocols import changed_settings

DESCRIPTION = """\
Tell what is built, which devices and versions are seen, and look a data set over: the layout found, images per split and class, missing
and stray files, unreadable images, duplicates. Takes every setting of python -m segp_ext.train. Exits with 0 if nothing is wrong, 1 if
there are problems (listed at the end), 2 for settings that do not exist or do not fit.

  --quick               do not open the images: no search for unreadable ones and duplicates

examples:
  python -m segp_ext.doctor
  python -m segp_ext.doctor --data.root photos
  python -m segp_ext.doctor --protocol segp-cub200 --data.root DIR --quick
"""


@dataclass
class PartReport:
    """Images of one part, train or test: their number, and how they spread over classes."""

    images: int
    fewest: list[tuple[str, int]]
    per_class: tuple[int, float, int]  # minimum, median, maximum


@dataclass
class Contents:
    """What opening every image showed.

    Attributes:
        opened: how many images.
        unreadable: those that cannot be decoded, with the reason.
        across: pairs (training image, test image) of the same content.
        within: by part, groups of images of the same content.
        contradicting: how many groups of the same content stand under several classes.
    """

    opened: int = 0
    unreadable: list[str] = field(default_factory=list)
    across: list[tuple[str, str]] = field(default_factory=list)
    within: dict[str, list[list[str]]] = field(default_factory=dict)
    contradicting: int = 0


@dataclass
class DataReport:
    """A data set as it was found; `contents` is None if its images were not opened."""

    name: str
    layout: str
    classes: int
    parts: dict[str, PartReport]
    missing: list[str]
    stray: list[str]
    tasks: list[tuple[int, int, int]] = field(default_factory=list)  # classes, training images, test images
    contents: Contents | None = None


@dataclass
class Report:
    """Everything that the command prints. `problems` say what is wrong and what to do."""

    environment: dict[str, str]
    settings: dict[str, str]
    data: DataReport | None = None
    problems: list[str] = field(default_factory=list)


# -- gathering -----------------------------------------------------------------------------------------------------------------


def examine(config: Config, quick: bool = False) -> Report:
    """Looks at the machine and at the data set of `config`; `quick` leaves its images closed."""
    built = segp_ext.build_info()
    changed = changed_settings(config)
    protocol = "none" if config.protocol is None else config.protocol
    report = Report(
        environment(built),
        {
            "protocol": f"{protocol}, changed: {', '.join(changed)}" if changed else protocol,
            "data set": config.data.name if config.data.root is None else f"{config.data.name} in {config.data.root}",
        },
    )
    if built["ops_path"] != "native":
        report.problems.append(f"The native kernels are not in use: {built['reason']}.")
    try:
        collection = load_collection(config.data)
    except (OSError, ValueError) as error:
        report.problems.append(str(error))
        return report
    report.data = DataReport(
        name=collection.name,
        layout=collection.layout,
        classes=len(collection.class_names),
        parts={part: _spread(collection, images) for part, images in _parts(collection).items()},
        missing=collection.missing,
        stray=collection.stray,
    )
    report.problems += _absent(config, "listed or linked but not there", "Put them there", collection.missing)
    try:
        scenario = make_scenario(collection, config.data)
    except (OSError, ValueError) as error:
        report.problems.append(str(error))
    else:
        report.data.tasks = [(len(t.class_names), len(t.train), len(t.test)) for t in scenario.tasks]
        report.problems += _too_few(config, collection, report.data.tasks)
    if not quick:
        report.data.contents = contents = open_all(collection, config.data.root)
        report.problems += _absent(config, "unreadable", "Replace them", contents.unreadable)
        if contents.across:
            pairs = several(f"{a} = {b}" for a, b in contents.across)
            report.problems.append(
                f"{len(contents.across)} test image(s) are training images as well: {pairs}. Accuracy on them shows memory alone; "
                "take them out of one part."
            )
    return report


def environment(built: dict[str, Any]) -> dict[str, str]:
    """What is built (see `segp_ext.build_info`), devices and versions, as text by name."""
    cuda = "built" if built["cuda_built"] else f"not built ({built['cuda_reason'] or 'no native library'})"
    found = {
        "segp_ext": f"{built['version']}, {built['ops_path']} ops"
        + (f" ({built['library']})" if built["library"] else ""),
        "compiler": str(built["compiler"] or "none"),
        "CUDA kernels": f"{cuda}; {'usable' if built['cuda_usable'] else 'not usable now'}",
        "devices": ", ".join(
            ["cpu", *(f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count()))]
        ),
        "CPU": f"{os.cpu_count()} cores, {torch.get_num_threads()} threads for torch",
    }
    versions = train.versions()
    return found | {name: version for name, version in versions.items() if name != "segp_ext"}


def _parts(collection: Collection) -> dict[str, list[list[Any]]]:
    return {"train": collection.train, "test": collection.test}


def _spread(collection: Collection, images: list[list[Any]]) -> PartReport:
    counts = [len(of_class) for of_class in images]
    order = sorted(range(len(counts)), key=lambda c: counts[c])
    return PartReport(
        images=sum(counts),
        fewest=[(collection.class_names[c], counts[c]) for c in order[:3]],
        per_class=(min(counts), statistics.median(counts), max(counts)) if counts else (0, 0, 0),
    )


def _absent(config: Config, how: str, remedy: str, images: list[str]) -> list[str]:
    """A problem, unless the settings leave such images out."""
    if not images or config.data.unreadable == "skip":
        return []
    return [
        f"{len(images)} image(s) are {how}: {several(images)}. {remedy}, or leave them out with --data.unreadable skip."
    ]


def _too_few(config: Config, collection: Collection, tasks: list[tuple[int, int, int]]) -> list[str]:
    """Tasks whose images do not suffice for seeds, and classes that the learner refuses."""
    problems = []
    anchors = with_method(config).anchors
    seeds = 0 if anchors.kind == "none" else anchors.seeds_per_class
    for number, (_, images, _) in enumerate(tasks[1:], start=2):
        if images < seeds:
            problems.append(
                f"Task {number} has {images} training image(s), fewer than anchors.seeds_per_class {seeds}: lower that, or put more "
                "classes into a task with --data.classes_per_task."
            )
    counts = [(name, len(images)) for name, images in zip(collection.class_names, collection.train, strict=True)]
    few = [f"{name} ({count})" for name, count in counts if count < config.min_images_per_class]
    if few:
        problems.append(
            f"Classes with fewer training images than min_images_per_class {config.min_images_per_class}: {several(few)}. Add images, or "
            "lower it."
        )
    return problems


def open_all(collection: Collection, root: str | None) -> Contents:
    """Opens every image once; images are the same where the files (SHA-256), or the pixels of arrays, are. Names files from `root`."""

    def name(source: Any) -> str:
        return (
            os.path.relpath(source, Path(root or ".").expanduser()) if isinstance(source, Path) else f"image {source}"
        )

    def look(source: Any) -> tuple[str | None, str | None]:
        if not isinstance(source, Path):
            return collection.fingerprint(source), None
        try:
            data = source.read_bytes()
            with Image.open(io.BytesIO(data)) as image:
                image.convert("RGB")
        except Exception as error:  # decoders fail in more ways than can be listed
            return None, f"{name(source)} ({str(error).replace(str(source), source.name)})"
        return hashlib.sha256(data).hexdigest(), None

    sources = [
        (part, label, source)
        for part, images in _parts(collection).items()
        for label, of_class in enumerate(images)
        for source in of_class
    ]
    result = Contents(opened=len(sources), within={part: [] for part in _parts(collection)})
    same: dict[str, list[tuple[str, int, Any]]] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        looked = pool.map(look, [source for _, _, source in sources])
        for member, (digest, trouble) in zip(sources, progress(looked, "opening", len(sources)), strict=True):
            if digest is None:
                result.unreadable.append(str(trouble))
            else:
                same.setdefault(digest, []).append(member)
    for members in same.values():
        by_part = {part: [name(source) for p, _, source in members if p == part] for part in result.within}
        for part, group in by_part.items():
            if len(group) > 1:
                result.within[part].append(group)
        if by_part["train"]:
            result.across += [(by_part["train"][0], image) for image in by_part["test"]]
        result.contradicting += len({label for _, label, _ in members}) > 1
    return result


# -- printing ------------------------------------------------------------------------------------------------------------------


def text(report: Report) -> str:
    """The report as aligned text."""
    blocks = [_block("Machine", report.environment), _block("Settings", report.settings)]
    if report.data is not None:
        blocks.append(_block("Data set", _data_rows(report.data)))
    if report.problems:
        listed = [f"  {number}. {problem}" for number, problem in enumerate(report.problems, start=1)]
        blocks.append("\n".join([f"{len(report.problems)} problem(s)", *listed]))
    else:
        blocks.append("No problems found.")
    return "\n\n".join(blocks)


def _block(title: str, rows: dict[str, str]) -> str:
    width = max(map(len, rows))
    return "\n".join([title, *(f"  {name.ljust(width)}  {value}" for name, value in rows.items())])


def _data_rows(data: DataReport) -> dict[str, str]:
    rows = {"name": data.name, "layout": data.layout, "classes": str(data.classes)}
    for part, found in data.parts.items():
        low, median, high = found.per_class
        rows[part] = f"{found.images:,} images; per class {low:,} to {high:,}, median {median:g}"
        if low < high:
            rows[f"{part}, fewest"] = ", ".join(f"{name} ({count:,})" for name, count in found.fewest)
    if data.tasks:
        sizes = [f"{classes} ({train:,} + {test:,})" for classes, train, test in data.tasks]
        rows["tasks"] = f"{len(sizes)}; classes (training + test images) of each: {several(sizes, 5)}"
    rows["missing files"] = _counted(data.missing)
    rows["stray files"] = _counted(data.stray) + (" (no images; left alone)" if data.stray else "")
    contents = data.contents
    if contents is None:
        rows["images"] = "not opened (--quick)"
        return rows
    rows["unreadable"] = f"{_counted(contents.unreadable)}; {contents.opened:,} images opened"
    rows["duplicates across"] = _counted([f"{a} = {b}" for a, b in contents.across])
    for part, groups in contents.within.items():
        rows[f"duplicates in {part}"] = _counted([" = ".join(group[:3]) for group in groups])
    if contents.contradicting:
        rows["same image, two classes"] = f"{contents.contradicting:,}"
    return rows


def _counted(items: list[str]) -> str:
    return f"{len(items):,}: {several(items)}" if items else "none"


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    plain_warnings()
    arguments = sys.argv[1:] if argv is None else argv
    config = train.parse([a for a in arguments if a != "--quick"], "doctor", DESCRIPTION)
    if config.run.threads is not None:
        torch.set_num_threads(config.run.threads)
    try:
        report = examine(config, quick="--quick" in arguments)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    print(text(report))
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
