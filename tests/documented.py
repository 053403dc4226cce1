"""What README.md and the pages tell people to type: code blocks, the commands in them, and a process that tries them.

`python tests/documented.py FOLDER < PAGES.json` tries blocks and commands in a folder of its own and prints what failed, as JSON.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import re
import subprocess
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "evidence/README.md",
]
SETTLED = ("train", "compare", "doctor", "new")
"""Commands of settings, which --print_config makes harmless."""
READ = ("learn", "evaluate", "suspects", "export", "serve")
"""Commands whose arguments are read, and no more."""
EXTRA = ("onnx", "onnxruntime", "onnxscript")
"""Packages of an extra; a block that imports one that is not installed is left out."""
_SHELL = """
command_not_found_handle() { printf '%s\\0' "$@" >&3; printf '\\n\\0' >&3; }
set -eu
"""
"""Bash reads a block as it would for a user, but finds no program; what it would have called goes to descriptor 3."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    language: str
    code: str


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, indented ones too."""
    found = []
    text = page.read_text(encoding="utf-8")
    for match in re.finditer(r"^( *)```(\w*)\n(.*?)^\1```$", text, re.DOTALL | re.MULTILINE):
        code = re.sub(rf"^{match[1]}", "", match[3], flags=re.MULTILINE)
        line = text[: match.start()].count("\n") + 1
        found.append(Block(page.relative_to(ROOT).as_posix(), line, match[2], code))
    return found


def commands(block: Block, folder: Path) -> list[list[str]]:
    """The programs that a shell block calls, with their arguments, as bash makes them; none is run.

    Args:
        block: the block.
        folder: an empty folder to be in.

    Raises:
        ValueError: with bash's message, if the block does not run to its end.
    """
    for program in (".ci/run", "benchmarks/run_gpu.sh"):  # called by path, which bash finds or not
        stub = folder / program
        stub.parent.mkdir(parents=True, exist_ok=True)
        stub.write_text(f"#!/bin/bash\nprintf '%s\\0' {program} \"$@\" >&3\nprintf '\\n\\0' >&3\n")
        stub.chmod(0o755)
    (folder / "docs").mkdir(exist_ok=True)  # for > docs/settings.md
    log = folder / "log"
    script = f"exec 3>{log}\n{_SHELL}{block.code}"
    environment = {"PATH": "/nowhere", "HOME": str(folder)}
    done = subprocess.run(["/bin/bash", "-c", script], cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode or done.stderr:
        raise ValueError(f"{block.page}, line {block.line}: {done.stderr}")
    return [entry.split("\0")[:-1] for entry in log.read_text().split("\n\0") if entry]


# -------------------------------------------------------------------------------------------------- in the process that tries


def prepare(folder: Path) -> None:
    """Makes what pages take for granted: photographs, a learner, a run, and the checkout's files."""
    import numpy as np
    from PIL import Image

    import segp_ext

    def draw(file: Path, seed: int) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.RandomState(seed).randint(0, 255, (16, 16, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(file)

    for seed, name in enumerate(("cat", "dog", "horse", "cow")):
        for part, count in (("train", 4), ("test", 1)):
            for number in range(count):
                draw(folder / "photos" / part / name / f"{number}.jpg", 10 * seed + number)
    for seed, name in enumerate(("heron", "robin")):
        for number in range(3):
            draw(folder / "birds" / name / f"{number}.jpg", 100 + 10 * seed + number)
    draw(folder / "cat.jpg", 1)
    draw(folder / "otter.png", 2)
    for name in ("evidence", "examples", "scripts", "benchmarks", "tests"):
        (folder / name).symlink_to(ROOT / name)

    config = segp_ext.MethodConfig(method="frozen-prototypes")
    config.calibration.fraction = 0.34  # an image of each class, so that the learner can tell unknown ones
    learner = segp_ext.SeGPCL(segp_ext.load_clip("glyph"), config)
    pixels = [np.full((3, 16, 16), value, np.uint8) for value in (0, 10, 20, 200, 210, 220)]
    learner.learn_task(list(zip(pixels, (0, 0, 0, 1, 1, 1), strict=True)), ["dark", "light"])
    for place in ("animals", "calibrated", "runs/NAME"):
        (folder / place).parent.mkdir(exist_ok=True)
        learner.save(folder / place)
    pets = segp_ext.SeGPCL(segp_ext.load_clip("glyph"), segp_ext.MethodConfig(method="frozen-prototypes"))
    for names in (["cat", "dog"], ["horse", "cow"]):
        photos = [str(folder / f"photos/train/{name}/{number}.jpg") for name in names for number in range(2)]
        pets.learn_task(list(zip(photos, (0, 0, 1, 1), strict=True)), names)
    pets.save(folder / "pets")
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        importlib.import_module("segp_ext.train").main(["--print_config"])
    (folder / "runs/NAME/config.yaml").write_text(said.getvalue())


def run_python(code: str) -> None:
    """Runs a block; one that begins with a file's name is written there and imported."""
    named = re.match(r"# (\w+)\.py\n", code)
    if named:
        Path(f"{named[1]}.py").write_text(code)
        importlib.import_module(named[1])
    else:
        exec(compile(code, "block", "exec"), {"__name__": "block"})


def read_yaml_block(code: str) -> None:
    """Reads a block of settings, after writing it to the file that its first line names."""
    named = re.match(r"# (\w+\.yaml)\n", code)
    file = Path(named[1] if named else "block.yaml")
    file.write_text(code)
    importlib.import_module("segp_ext").load_config(file)


def call(command: str, arguments: list[str]) -> None:
    """Gives arguments to one of the package's commands, which reads them all and begins nothing.

    Raises:
        ValueError: with what the command said, if it refuses them.
    """
    asks = {"-h", "--help"} & {*arguments}
    if command in SETTLED and not asks:
        # The settings of a run that goes on are its own; its help reads the rest of the line.
        arguments = [*arguments, "--help" if "--resume" in arguments else "--print_config"]
    said = io.StringIO()
    sys.stdin = io.TextIOWrapper(io.BytesIO(b"cat.jpg\n"))  # a list of paths, for those that read one
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            module = importlib.import_module(f"segp_ext.{command}")
            if command in READ and not asks:
                module.read_options(arguments)
                return
            status = module.main(arguments)
    except SystemExit as stop:
        status = stop.code or 0
    if status:
        raise ValueError(f"segp_ext.{command} {arguments}: {said.getvalue()}")


def one_method_each(command: str, arguments: list[str]) -> list[list[str]]:
    """A comparison's arguments once for each of its methods, as it reads the first one alone before it prints."""
    if command != "compare" or "--methods" not in arguments:
        return [arguments]
    begin = arguments.index("--methods") + 1
    end = next((i for i in range(begin, len(arguments)) if arguments[i].startswith("--")), len(arguments))
    return [[*arguments[:begin], method, *arguments[end:]] for method in arguments[begin:end]]


def main() -> None:
    """Tries what is asked for on standard input, page by page: {page: [["python" or "yaml", code] or [command, arguments]]}."""
    folder = Path(sys.argv[1])
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    out, sys.stdout = sys.stdout, sys.stderr
    prepare(folder)
    failed: dict[str, list[str]] = {}
    for page, tried in json.load(sys.stdin).items():
        for kind, what in tried:
            try:
                if kind == "python":
                    run_python(what)
                elif kind == "yaml":
                    read_yaml_block(what)
                else:
                    for arguments in one_method_each(kind, what):
                        call(kind, arguments)
            except ModuleNotFoundError as lacks:
                if lacks.name not in EXTRA:
                    failed.setdefault(page, []).append(f"{what}\n{traceback.format_exc()}")
            except Exception:
                failed.setdefault(page, []).append(f"{what}\n{traceback.format_exc()}")
    json.dump(failed, out)


if __name__ == "__main__":
    main()
