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
from PIL import ExifTags, Image

import segp_ext
from segp_ext import train
from segp_ext.clip.pretrained import load_clip, model_in_words
from segp_ext.config import Config
from segp_ext.data import Collection, Scenario, load_collection
from segp_ext.data.folder import IMAGES, several
from segp_ext.data.images import as_rgb, possible_formats, reason
from segp_ext.data.scenario import make_scenario
from segp_ext.run.command_line import parse
from segp_ext.run.identity import changed_settings
from segp_ext.run.preflight import attempts, doubts, held_out_sets
from segp_ext.runtime import git_lfs
from segp_ext.runtime.progress import plain_warnings, progress, run_command

DESCRIPTION = """\
Show what is built, and which devices and versions are seen. Look a data set over: the layout found, images per split and class, missing
and stray files, unreadable images, duplicates. Then try whether a run could begin: the model, its weights, the prompts of all classes,
the held-out data sets. Class names that mean nothing to the model are noted. Takes every setting of python -m segp_ext.train, and as
that command without any: the built-in digits.

Exit status: 0 if nothing is wrong, 1 if there are problems (listed at the end), 2 for settings that do not exist or do not fit.

examples:
  python -m segp_ext.doctor
  python -m segp_ext.doctor --data.root photos
  python -m segp_ext.doctor --protocol segp-cub200 --data.root DIR --quick
"""


FLAGS = {
    "--quick": "Open neither the images nor the model: unreadable images, duplicates and prompts that do not fit are not looked for.",
    "--classes": "List the images of every class, however many there are.",
}
"""Options of this command alone, and what they mean."""
SHOWN = 20
"""Classes that are listed one by one without being asked for."""


@dataclass
class Contents:
    """What opening every image showed.

    Attributes:
        opened: how many images.
        unreadable: by source, the name and the reason of those that cannot be decoded.
        across: pairs (training image, test image) of the same content.
        within: by part, groups of images of the same content.
        contradicting: how many groups of the same content stand under several classes.
        turned: images that their EXIF orientation says are to be turned.
        upright: whether they are (`loading.orientation`).
    """

    opened: int = 0
    unreadable: dict[Any, tuple[str, str]] = field(default_factory=dict)
    across: list[tuple[str, str]] = field(default_factory=list)
    within: dict[str, list[list[str]]] = field(default_factory=dict)
    contradicting: int = 0
    turned: list[str] = field(default_factory=list)
    upright: bool = False


@dataclass
class DataReport:
    """A data set as it was found.

    Attributes:
        parts: by part, train or test, the number of images of each class.
        missing, stray: see `segp_ext.data.Collection`.
        tasks: of every task the number of classes, training and test images that a run sees.
        contents: None if its images were not opened.
    """

    name: str
    layout: str
    class_names: list[str]
    parts: dict[str, list[int]]
    missing: list[str]
    stray: list[str]
    tasks: list[tuple[int, int, int]] = field(default_factory=list)
    contents: Contents | None = None


@dataclass
class Report:
    """Everything that the command prints. `problems` say what is wrong and what to do, `notes` what is to be known of numbers."""

    environment: dict[str, str]
    settings: dict[str, str]
    data: DataReport | None = None
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


# -- gathering -----------------------------------------------------------------------------------------------------------------


def examine(config: Config, quick: bool = False) -> Report:
    """Looks at the machine and at the data set of `config`; `quick` leaves its images closed."""
    built = segp_ext.build_info()
    changed = changed_settings(config)
    protocol = "none" if config.protocol is None else config.protocol
    data = ("digits" if config.data.root is None else "folder") if config.data.name == "auto" else config.data.name
    report = Report(
        environment(built),
        {
            "protocol": f"{protocol}, changed: {', '.join(changed)}" if changed else protocol,
            "model": model_in_words(config.model.name, config.model.pretrained),
            "data set": data if config.data.root is None else f"{data} in {config.data.root}",
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
        class_names=collection.class_names,
        parts={part: [len(of_class) for of_class in images] for part, images in _parts(collection).items()},
        missing=collection.missing,
        stray=collection.stray,
    )
    report.problems += _absent(config, "listed or linked but not there", "Put them there", collection.missing)
    if len(collection.class_names) < 2:
        report.problems.append(
            f"There is but one class, {several(collection.class_names)}: nothing is to be told apart. Is data.root the right folder?"
        )
    inner = None if config.data.merge_folders else _inner_folder(collection)
    if inner is not None:
        report.problems.append(
            f"The images of every class lie in a folder {inner!r} in the class's folder. If {inner!r} is the class, and "
            f"{several(collection.class_names)} are where its images come from, put the images of each class into one folder. If the "
            "classes are named rightly, add --data.merge_folders true."
        )
    if not quick:
        report.data.contents = contents = open_all(collection, config.data.root)
        contents.upright = config.loading.orientation == "exif"
        unreadable = [f"{name} ({reason})" for name, reason in contents.unreadable.values()]
        report.problems += _absent(config, "unreadable", "Replace them", unreadable)
        if contents.across:
            pairs = several(f"{a} = {b}" for a, b in contents.across)
            report.problems.append(
                f"{len(contents.across)} test image(s) are training images as well: {pairs}. Accuracy on them shows memory alone; "
                "take them out of one part."
            )
        for images in _parts(collection).values() if config.data.unreadable == "skip" else ():
            for of_class in images:
                of_class[:] = [source for source in of_class if source not in contents.unreadable]
    try:
        scenario = make_scenario(collection, config.data)
    except (OSError, ValueError) as error:
        report.problems.append(str(error))
        return report
    report.data.tasks = [(len(t.class_names), len(t.train), len(t.test)) for t in scenario.tasks]
    _doubt(report, config, scenario.class_names)
    if not quick:
        _start(report, config, scenario)
    return report


def _inner_folder(collection: Collection) -> str | None:
    """The name of the one folder that all images of a class lie in, where it is the same for all classes and says what it holds."""
    sources = [[source for source in of_class if isinstance(source, Path)] for of_class in collection.train]
    if len(sources) < 2 or not all(sources):
        return None
    names = {os.path.basename(os.path.commonpath([source.parent for source in of_class])) for of_class in sources}
    return names.pop() if len(names) == 1 and not {name.lower() for name in names} & set(IMAGES) else None


def _doubt(report: Report, config: Config, names: list[str], source: str = "") -> None:
    doubt = doubts(config, names, source)
    if doubt is not None:
        report.notes.append(doubt)


def _start(report: Report, config: Config, scenario: Scenario) -> None:
    """Adds what would stop a run before its first task."""
    model = config.model
    try:
        backbone = load_clip(model.name, model.pretrained, model.device, resize_mode=model.resize_mode)
    except (OSError, ValueError) as error:
        report.problems.append(str(error))
        return

    def held() -> None:
        for name, found in held_out_sets(config, backbone).items():
            _doubt(report, config, found.class_names, name)

    for attempt in (*attempts(config, scenario, backbone), held):
        try:
            attempt()
        except (OSError, ValueError) as error:
            report.problems.append(str(error))


def environment(built: dict[str, Any]) -> dict[str, str]:
    """What is built (see `segp_ext.build_info`), devices and versions, as text by name."""
    cuda = f"built; {'usable' if built['cuda_usable'] else 'not usable now'}"
    if not built["cuda_built"]:
        cuda = f"not built ({built['cuda_reason'] or 'no native library'})"
    found = {
        "segp_ext": f"{built['version']}, {'native kernels' if built['ops_path'] == 'native' else 'plain PyTorch'}"
        + (f" ({built['library']})" if built["library"] else ""),
        "compiler": str(built["compiler"] or "none"),
        "CUDA kernels": cuda,
        "devices": ", ".join(
            ["cpu", *(f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count()))]
        ),
        "CPU": f"{os.cpu_count()} cores, {torch.get_num_threads()} threads for torch",
    }
    versions = train.versions()
    return found | {name: version for name, version in versions.items() if name != "segp_ext"}


def _parts(collection: Collection) -> dict[str, list[list[Any]]]:
    return {"train": collection.train, "test": collection.test}


def _absent(config: Config, how: str, remedy: str, images: list[str]) -> list[str]:
    """A problem, unless the settings leave such images out."""
    if not images or config.data.unreadable == "skip":
        return []
    return [
        f"{len(images)} image(s) are {how}: {several(images)}. {remedy}, or leave them out with --data.unreadable skip."
    ]


def open_all(collection: Collection, root: str | None) -> Contents:
    """Opens every image once; images are the same where the files (SHA-256), or the pixels of arrays, are. Names files from `root`."""

    def name(source: Any) -> str:
        return (
            os.path.relpath(source, os.path.expanduser(root or ".")) if isinstance(source, Path) else f"image {source}"
        )

    def look(source: Any) -> tuple[str | None, str]:
        if not isinstance(source, Path):
            return collection.fingerprint(source), ""
        data = b""
        try:
            data = source.read_bytes()
            with Image.open(io.BytesIO(data), formats=possible_formats(source.name)) as image:
                as_rgb(image)
                if image.getexif().get(ExifTags.Base.Orientation, 1) > 1:
                    turned.append(source)
        except Exception as error:  # decoders fail in more ways than can be listed
            return None, reason(error).replace(str(source), source.name) + git_lfs.hint(data)
        return hashlib.sha256(data).hexdigest(), ""

    sources = [
        (part, label, source)
        for part, images in _parts(collection).items()
        for label, of_class in enumerate(images)
        for source in of_class
    ]
    turned: list[Path] = []
    result = Contents(opened=len(sources), within={part: [] for part in _parts(collection)})
    same: dict[str, list[tuple[str, int, Any]]] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        looked = pool.map(look, [source for _, _, source in sources])
        for member, (digest, trouble) in zip(sources, progress(looked, "opening", len(sources)), strict=True):
            if digest is None:
                result.unreadable[member[2]] = (name(member[2]), trouble)
            else:
                same.setdefault(digest, []).append(member)
    result.turned = sorted(map(name, turned))
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


def text(report: Report, all_classes: bool = False) -> str:
    """The report as aligned text; with `all_classes` the images of every class, however many."""
    blocks = [_block("Machine", report.environment), _block("Settings", report.settings)]
    if report.data is not None:
        blocks.append(_block("Data set", _data_rows(report.data)))
        if all_classes or len(report.data.class_names) <= SHOWN:
            counts = zip(report.data.class_names, *report.data.parts.values(), strict=True)
            rows = {name: " + ".join(f"{count:,}" for count in of_class) for name, *of_class in counts}
            blocks.append(_block("Images of each class, training + test", rows))
    blocks += [f"note: {note}" for note in report.notes]
    if report.problems:
        listed = [f"  {number}. {problem}" for number, problem in enumerate(report.problems, start=1)]
        blocks.append("\n".join([f"{len(report.problems)} problem(s)", *listed]))
    else:
        unopened = report.data is not None and report.data.contents is None
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
    rows["stray files"] = _counted(data.stray) + (
        " (no images, or in no class folder; left alone)" if data.stray else ""
    )
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


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit status."""
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
