"""Examines an installation and a data set before a run: everything that `segp doctor` reports."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass, field
from pathlib import Path

import segp_ext
from segp_ext.clip.model_names import model_in_words
from segp_ext.clip.pretrained import load_clip
from segp_ext.config import Config
from segp_ext.data import Collection, Scenario, load_collection
from segp_ext.data.class_folders import IMAGES
from segp_ext.data.messages import several
from segp_ext.data.scenario import make_scenario
from segp_ext.data.stream import in_order, joined_stream, source_configs, source_name
from segp_ext.run.identity import changed_settings
from segp_ext.run.image_check import Contents, open_all
from segp_ext.run.installation import environment
from segp_ext.run.preflight import attempts, doubts, held_out_sets


@dataclass
class DataReport:
    """Describes a data set as it was found.

    Attributes:
        name: Name of the data set.
        layout: Layout that was recognised, in words.
        class_names: Names of all classes.
        parts: Number of images of each class, by part ("train", "test" and, where it is published, "validation").
        missing: Images that are listed or linked but not there.
        stray: Files that belong to no class.
        tasks: Number of classes, training images and test images of each task of a run.
        contents: What the images hold; None if they were not opened.
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
    """Everything that an examination found.

    Attributes:
        environment: Kernels, devices and versions, by subject.
        settings: Protocol, model and data set, in words.
        data: The data sets that can be read, in the order of `data.sources`.
        problems: Faults, each with its remedy.
        notes: What a reader of the numbers should know.
    """

    environment: dict[str, str]
    settings: dict[str, str]
    data: list[DataReport] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def examine(config: Config, quick: bool = False) -> Report:
    """Looks at the machine and at the data set of a configuration.

    Args:
        config: Settings of the run that is planned.
        quick: Whether to open neither images nor model.
    """
    built = segp_ext.build_info()
    report = Report(environment(built), _settings_in_words(config))
    if built["ops_path"] != "native":
        report.problems.append(f"The native kernels are not in use: {built['reason']}.")
    sources = source_configs(config.data)
    parts = [_examine_source(report, config, number, quick) for number in range(1, len(sources) + 1)]
    cut = [part for part in parts if part is not None]
    if len(cut) < len(parts):
        return report
    scenario = cut[0]
    if config.data.sources is not None:
        try:
            scenario = joined_stream(in_order(cut, config.data.source_order), config.data)
        except ValueError as error:
            report.problems.append(str(error))
            return report
    _note_doubt(report, config, scenario.called)
    if not quick:
        _check_start(report, config, scenario)
    return report


def _examine_source(report: Report, config: Config, number: int, quick: bool) -> Scenario | None:
    """Examines one data set.

    Args:
        report: Gets what is found.
        config: Settings of the run.
        number: Number of the data set among those that the run learns, from 1.
        quick: Whether to open no images.

    Returns:
        The data set, cut into tasks; None if it cannot be learnt.
    """
    source = source_configs(config.data)[number - 1]
    which = "" if config.data.sources is None else f"{source_name(source, number)}: "
    before = len(report.problems)
    own = dataclasses.replace(config, data=source)
    try:
        collection = load_collection(source)
    except (OSError, ValueError) as error:
        report.problems.append(f"{which}{error}")
        return None
    found = DataReport(
        name=source.title or collection.name,
        layout=collection.layout,
        class_names=collection.class_names,
        parts={part: [len(of_class) for of_class in images] for part, images in collection.parts().items()},
        missing=collection.missing,
        stray=collection.stray,
    )
    report.data.append(found)
    _check_layout(report, own, collection)
    if not quick:
        found.contents = _check_images(report, own, collection)
    scenario = None
    try:
        scenario = make_scenario(collection, source)
        found.tasks = [(len(t.class_names), len(t.train), len(t.test)) for t in scenario.tasks]
    except (OSError, ValueError) as error:
        report.problems.append(str(error))
    report.problems[before:] = [f"{which}{problem}" for problem in report.problems[before:]]
    return scenario


def _settings_in_words(config: Config) -> dict[str, str]:
    changed = changed_settings(config)
    protocol = "none" if config.protocol is None else config.protocol
    place = "" if config.data.root is None else f" in {config.data.root}"
    if config.data.sources is not None:
        data = {"data sets": f"{len(config.data.sources)} in a stream{place}"}
    elif config.data.name == "auto":
        data = {"data set": f"{'digits' if config.data.root is None else 'folder'}{place}"}
    else:
        data = {"data set": f"{config.data.name}{place}"}
    return {
        "protocol": f"{protocol}, changed: {', '.join(changed)}" if changed else protocol,
        "model": model_in_words(config.model.name, config.model.pretrained),
        **data,
    }


def _check_layout(report: Report, config: Config, collection: Collection) -> None:
    """Adds problems that show without opening an image."""
    report.problems += _absent(
        config,
        "listed or linked but not there",
        f"Put them there{collection.page and f' (download: {collection.page})'}",
        collection.missing,
    )
    if len(collection.class_names) < 2:
        report.problems.append(
            f"There is only one class, {several(collection.class_names)}, so a model has nothing to tell apart. Is data.root the right "
            "folder?"
        )
    inner = None if config.data.merge_folders else _inner_folder(collection)
    if inner is not None:
        report.problems.append(
            f"The images of every class lie in a folder {inner!r} in the class's folder. If {inner!r} is the class, and "
            f"{several(collection.class_names)} are where its images come from, put the images of each class into one folder. If the "
            "classes are named rightly, add --data.merge_folders true."
        )


def _check_images(report: Report, config: Config, collection: Collection) -> Contents:
    """Opens all images and adds the problems found; takes unreadable ones out of the data set where the settings say so."""
    contents = open_all(collection, config.data.root)
    contents.upright = config.loading.orientation == "exif"
    unreadable = [f"{name} ({reason})" for name, reason in contents.unreadable.values()]
    report.problems += _absent(config, "unreadable", "Replace them", unreadable)
    if contents.across:
        pairs = several(f"{a} = {b}" for a, b in contents.across)
        report.problems.append(
            f"{len(contents.across)} test image(s) are training images as well: {pairs}. Accuracy on them shows memory alone; "
            "take them out of one part."
        )
    for images in collection.parts().values() if config.data.unreadable == "skip" else ():
        for of_class in images:
            of_class[:] = [source for source in of_class if source not in contents.unreadable]
    return contents


def _inner_folder(collection: Collection) -> str | None:
    """Returns the name of the folder that holds all images of a class.

    Returns None if the name differs between classes, if one folder holds the images of several classes, or if it is a word for images.
    """
    sources = [[source for source in of_class if isinstance(source, Path)] for of_class in collection.train]
    if len(sources) < 2 or not all(sources):
        return None
    folders = {os.path.commonpath([source.parent for source in of_class]) for of_class in sources}
    if len(folders) < len(sources):
        return None
    names = {os.path.basename(folder) for folder in folders}
    return names.pop() if len(names) == 1 and not {name.lower() for name in names} & set(IMAGES) else None


def _note_doubt(report: Report, config: Config, names: list[str], source: str = "") -> None:
    doubt = doubts(config, names, source)
    if doubt is not None:
        report.notes.append(doubt)


def _check_start(report: Report, config: Config, scenario: Scenario) -> None:
    """Adds what would stop a run before its first task."""
    model = config.model
    try:
        backbone = load_clip(model.name, model.pretrained, model.device, resize_mode=model.resize_mode)
    except (OSError, ValueError) as error:
        report.problems.append(str(error))
        return

    def held_out() -> None:
        for name, found in held_out_sets(config, backbone).items():
            _note_doubt(report, config, found.class_names, name)

    for attempt in (*attempts(config, scenario, backbone), held_out):
        try:
            attempt()
        except (OSError, ValueError) as error:
            report.problems.append(str(error))


def _absent(config: Config, how: str, remedy: str, images: list[str]) -> list[str]:
    """Returns a problem about images that cannot be used, unless the settings leave such images out."""
    if not images or config.data.unreadable == "skip":
        return []
    return [
        f"{len(images)} image(s) are {how}: {several(images)}. {remedy}, or leave them out with --data.unreadable skip."
    ]
