"""Tries random trees of images and random settings: each must be taken, or refused with a message that names the fault.

python tests/faults/fuzz.py [--inputs 100000] [--seed 0]
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import dataclasses
import io
import json
import os
import random
import shutil
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from segp_ext.config import Config, DataConfig, MethodConfig, from_dict
from segp_ext.config.settings_files import read_settings
from segp_ext.data import load_scenario
from segp_ext.run import command_line

FOLDERS = [
    "train", "test", "val", "cat", "dog", "red_fox", "n01440764", "n01443537", "images", "a b", "Ünï", "new\nline", ".hidden", "0", "-x",
    "'q\"", "%s{}", "x" * 200, "CAT", "cat.jpg", "__MACOSX", "\udcff",
]  # fmt: skip
FILES = [
    "0.jpg", "1.JPG", "2.png", "3.jpeg", "a b.jpg", "train.txt", "test.txt", "val_annotations.txt", "notes.txt", "names.json", ".DS_Store",
    "4.tif", "5.gif", "new\nline.jpg", "Thumbs.db", "noending", "\udcfe.jpg",
]  # fmt: skip
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2, 10**30, 0.5, -0.0, 1e308, float("nan"), float("inf"), "", "x", "auto", "null", "../x", "\0", "é", [],
    [1], ["x"], {}, {"x": 1}, [[]], "dpgd", "segp", "sgd", "9" * 5000,
]  # fmt: skip
TEXTS = ["{", "a: [", "anchors: 3", "- 1", "", "\t", "anchors: {steps: !!python/object/apply:os.system [true]}"]
COPIES = [
    "a: &a [*a]",
    "seed: &s 1\nrun: {threads: *s}",
    "<<: {seed: 1}",
    "<<: [1]",
    "? [a]\n: 1",
    "? {a: 1}\n: 1",
    "2001-01-01: 1",
    "!!set {a}",
]
OPTIONS = [
    "--seed",
    "--anchors.steps",
    "--data.order",
    "--run.name",
    "--held_out",
    "--training.learning_rate",
    "--lora.targets",
]


def pictures() -> list[bytes]:
    """Makes contents for image files: images of several kinds, cut images, and bytes that are no image."""
    found = []
    for mode, form in (
        ("RGB", "JPEG"),
        ("L", "PNG"),
        ("CMYK", "JPEG"),
        ("P", "GIF"),
        ("I;16", "PNG"),
        ("F", "TIFF"),
        ("RGBA", "PNG"),
    ):
        buffer = io.BytesIO()
        Image.new(mode, (3, 2)).save(buffer, form)
        found.append(buffer.getvalue())
    huge = bytearray(found[1])  # a PNG that says it is 60,000 pixels wide and high
    huge[16:24] = (60_000).to_bytes(4, "big") * 2
    return [*found, found[0][: len(found[0]) // 2], found[1][:20], b"", b"text", bytes(range(256)), bytes(huge)]


class Fuzz:
    """Makes random inputs from one generator, and tries them.

    Args:
        seed: seed of the generator.
        folder: where trees are made; each replaces the one before.

    Attributes:
        outcomes: how often each outcome came, by kind of input.
    """

    def __init__(self, seed: int, folder: Path) -> None:
        self.draw, self.folder, self.contents = random.Random(seed), folder, pictures()
        self.outcomes: Counter[str] = Counter()

    def tree(self) -> dict[str, Any]:
        """Makes a random tree, and returns settings that point to it."""
        draw = self.draw
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        places = [self.folder]
        if draw.random() < 0.5:  # begins with a correct tree, before random folders and files come in
            for part in draw.choice([["train", "test"], ["train", "val"], [""]]):
                for name in ("cat", "red_fox", "n01440764"):
                    (self.folder / part / name).mkdir(parents=True)
                    places.append(self.folder / part / name)
                    for number in range(2):
                        (places[-1] / f"{number}.jpg").write_bytes(self.contents[0])
        for _ in range(draw.randint(0, 7)):
            place = draw.choice(places) / draw.choice(FOLDERS)
            with contextlib.suppress(OSError):
                place.mkdir()
                places.append(place)
        made: list[str] = []
        for _ in range(draw.randint(0, 14)):
            path = draw.choice(places) / draw.choice(FILES)
            if os.path.lexists(path):
                continue
            with contextlib.suppress(OSError):
                kind = draw.random()
                if kind < 0.04:
                    path.symlink_to(draw.choice([path, self.folder, "nowhere"]))
                elif kind < 0.06:
                    os.mkfifo(path)
                elif path.suffix in (".txt", ".json"):
                    path.write_bytes(self.text(made))
                else:
                    path.write_bytes(draw.choice(self.contents if draw.random() < 0.3 else self.contents[:3]))
                    made.append(os.fsdecode(os.path.relpath(path, self.folder)))
        chosen: dict[str, Any] = {"root": str(self.folder), "classes_per_task": draw.choice([1, 2, 100])}
        name = draw.choice(["folder", "folder", "auto", "imagenet-r", "imagenet100", "cub200", "ucf101", "cifar100"])
        chosen["name"] = name
        if draw.random() < 0.3:
            chosen |= {"train_list": "train.txt", "test_list": "test.txt"}
        if draw.random() < 0.1:
            chosen["class_list"] = draw.choice(["train.txt", "notes.txt", "gone"])
        if draw.random() < 0.1:
            chosen["names_file"] = "names.json"
        if draw.random() < 0.2:
            chosen["unreadable"] = "skip"
        if draw.random() < 0.3:
            chosen["order"] = draw.choice([None, 3, "imagenet-r-rapf", "cub200-rapf"])
        return chosen

    def text(self, made: list[str]) -> bytes:
        """Makes a text file: a list of files that exist and files that do not, JSON, or noise.

        Args:
            made: paths of the images in the tree.
        """
        draw = self.draw
        if draw.random() < 0.1:
            return bytes(draw.randrange(256) for _ in range(20))
        if draw.random() < 0.2:
            return json.dumps(
                draw.choice([{}, [], {"cat": "Cat"}, {"cat": ["a", "b"]}, {"cat": 1}, "x", None])
            ).encode()
        lines = [
            draw.choice([*made, "cat/0.jpg", "dog/1.JPG 3", "", "no such", "/abs/cat/0.jpg", "../../etc/passwd"])
            for _ in range(6)
        ]
        return "\n".join(lines).encode(errors="surrogateescape")

    def load(self) -> str:
        """Loads one random tree, and reads an image of each part of each task; returns "loaded" or "refused"."""
        given = self.tree()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                scenario = load_scenario(from_dict(DataConfig, given))
                for task in scenario.tasks:
                    for part in (task.train, task.test):
                        image, label = part[0]
                        assert image.mode == "RGB" and 0 <= label < len(task.class_names)
        except (OSError, ValueError) as error:
            return self.refused(error, given)
        names = [name for task in scenario.tasks for name in task.class_names]
        assert len({*names}) == len(names) and all(names), names
        json.dumps(names, ensure_ascii=False).encode()  # as a run does for its result
        return "loaded"

    def settings(self) -> str:
        """Reads random settings as from a checkpoint or a file; returns "taken" or "refused"."""
        draw = self.draw
        kind = draw.choice([Config, MethodConfig, DataConfig])
        values = copy.deepcopy(dataclasses.asdict(kind()))
        for _ in range(draw.choice((1, 1, 1, 2, 3))):
            inner: Any = values
            while True:
                key = draw.choice([*inner, *draw.choices(["colour", "", "__class__"], k=1)])
                if isinstance(inner.get(key), dict) and inner[key] and draw.random() < 0.9:
                    inner = inner[key]
                    continue
                inner[key] = draw.choice(VALUES)
                break
        try:
            from_dict(kind, values)
        except ValueError as error:
            return self.refused(error, values)
        return "taken"

    def file(self) -> str:
        """Reads a random file of settings; returns "taken" or "refused"."""
        draw, file = self.draw, self.folder.with_suffix(".yaml")
        values = copy.deepcopy(dataclasses.asdict(Config()))
        group = draw.choice(list(values))
        if isinstance(values[group], dict) and draw.random() < 0.8:
            name = draw.choice([*values[group], "colour"])
            values[group] = {**values[group], name: draw.choice(VALUES)}
        else:
            values[group] = draw.choice(VALUES)
        content = yaml.safe_dump({group: values[group], **draw.choice([{}, {"seed": 1}])}, allow_unicode=True).encode()
        if draw.random() < 0.5:
            content = draw.choice([*TEXTS, *COPIES]).encode() if draw.random() < 0.2 else self.damaged(content)
        file.write_bytes(content)
        try:
            read_settings(file)
        except ValueError as error:
            return self.refused(error, content, naming=str(file))
        return "taken"

    def damaged(self, content: bytes) -> bytes:
        """Returns `content` with a few bytes changed, left out, or put in."""
        draw, found = self.draw, bytearray(content)
        for _ in range(draw.randint(1, 3)):
            place = draw.randrange(len(found) + 1)
            change = draw.choice(
                [bytes([draw.randrange(256)]), b"\n", b":", b"- ", b"{", b"'", b"&a *a ", b"\t", b"<<: ", b""]
            )
            found[place : place + draw.randint(0, 2)] = change
        return bytes(found)

    def command(self) -> str:
        """Reads random settings from the command line and a file, as users give them; returns "taken" or "refused". Slow."""
        draw = self.draw
        file = self.folder.with_suffix(".yaml")
        file.write_text(draw.choice([*TEXTS, yaml.safe_dump({"anchors": {"steps": draw.choice(VALUES)}})]))
        configs = draw.choice([[], ["--config", str(file)], ["--config", "digits"]])
        arguments = [*configs, draw.choice(OPTIONS), str(draw.choice(VALUES)).replace("\0", "")]
        said, status = io.StringIO(), 0
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            try:
                command_line.parse(arguments)
            except SystemExit as end:
                status = int(end.code or 0)
        assert status == 0 or (status == 2 and said.getvalue().strip()), arguments
        return "refused" if status else "taken"

    @staticmethod
    def refused(error: Exception, given: object, naming: str = "") -> str:
        """Asserts that an error says something, contains `naming`, and is not Python's own error about an encoding."""
        text = str(error)
        assert len(text) > 10 and naming in text and not isinstance(error, UnicodeError), (repr(error), given)
        return "refused"

    def run(self, inputs: int) -> None:
        """Tries `inputs` inputs: half are trees, a quarter settings, a quarter files of settings, and one in a thousand a command line."""
        kinds = {"command": self.command, "tree": self.load, "settings": self.settings, "file": self.file}
        for number in range(inputs):
            what = "command" if number % 1000 == 7 else ("tree", "settings", "tree", "file")[number % 4]
            outcome = kinds[what]()
            self.outcomes[f"{what}: {outcome}"] += 1
            if number % 10_000 == 9_999:
                print(f"{number + 1:,} inputs", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000, help="number of inputs to try")
    parser.add_argument("--seed", type=int, default=0, help="seed of all inputs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        fuzz = Fuzz(options.seed, Path(folder) / "tree")
        fuzz.run(options.inputs)
    print(", ".join(f"{name} {count:,}" for name, count in sorted(fuzz.outcomes.items())))


if __name__ == "__main__":
    sys.exit(main())
