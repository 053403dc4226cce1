"""What README.md and the pages tell people to type works: Python blocks run, commands read their arguments, files are there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib

import pytest
from documented import PAGES, ROOT, Block, blocks, commands

import segp_ext

NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
STORY = "docs/months.md"
"""A page whose commands tests/test_story.py runs for real."""
ELSEWHERE = {
    "accelerate",
    "cmake",
    "ctest",
    "curl",
    "find",
    "git",
    "mkdocs",
    "pre-commit",
    "ruff",
    "mypy",
    "sha256sum",
    "torchrun",
}
"""Programs of others, whose options are theirs to check."""


def shell_commands(page: str, folder) -> list[list[str]]:
    found = []
    for number, block in enumerate(blocks(ROOT / page)):
        if block.language == "bash":
            own = folder / str(number)
            own.mkdir()
            found += commands(block, own)
    return found


def of_package(command: list[str]) -> tuple[str, list[str]] | None:
    """The command of segp_ext that a command line calls, behind a launcher too, and its arguments."""
    if command[0] == "segp":
        return command[1], command[2:]
    for place, word in enumerate(command[:-1]):
        name = command[place + 1].removeprefix("segp_ext.")
        if word == "-m" and command[place + 1].startswith("segp_ext."):
            return name, command[place + 2 :]
    return None


@pytest.fixture(scope="module")
def failures(tmp_path_factory):
    """What fails, by page, of all that one process tries."""
    asked: dict[str, list] = {}
    for page in NAMES:
        read = [[block.language, block.code] for block in blocks(ROOT / page) if block.language in ("python", "yaml")]
        own = [
            named
            for command in shell_commands(page, tmp_path_factory.mktemp("shell"))
            if (named := of_package(command))
        ]
        asked[page] = [*read, *([] if page == STORY else own)]
    folder = tmp_path_factory.mktemp("tried")
    done = subprocess.run(
        [sys.executable, ROOT / "tests/documented.py", folder], input=json.dumps(asked), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("page", NAMES)
def test_python_runs_and_commands_are_read(page, failures):
    assert page not in failures, "\n".join(failures[page])


def check_other(command: list[str]) -> None:
    """Checks a command line that calls no command of segp_ext, as far as it names files, modules and extras of this checkout."""
    program, *arguments = command
    if program == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        for extra in re.findall(r"\[([\w,]+)\]", " ".join(arguments)):
            assert {*extra.split(",")} <= {*extras}, command
    elif program == "pytest":
        assert all((ROOT / word).exists() for word in arguments if word.startswith("tests")), command
    elif program == "python":
        module = arguments[0] == "-m"
        path = ROOT / (arguments[1].replace(".", "/") if module else arguments[0])
        file = next((f for f in (path, path.with_suffix(".py"), path / "__main__.py") if f.is_file()), None)
        assert file is not None or arguments[1] in ("build", "venv"), command
        if file is not None:
            # A package's commands share options.
            source = "".join(other.read_text() for other in file.parent.glob("*.py")) if module else file.read_text()
            unknown = [word for word in arguments if word.startswith("--") and f'"{word.split("=")[0]}"' not in source]
            assert not unknown, (command, unknown)
    elif "/" in program:
        assert (ROOT / program).is_file(), command
    else:
        assert program in ELSEWHERE, command


@pytest.mark.parametrize("page", NAMES)
def test_other_commands_name_what_is_there(page, tmp_path):
    for command in shell_commands(page, tmp_path):
        named = of_package(command)
        if named is None:
            check_other(command)
        else:
            assert named[0] in segp_ext.COMMANDS, command


def test_every_block_says_its_language():
    """Output has none; all else is run, read or shown as what it is."""
    kinds = {block.language for page in PAGES for block in blocks(page)}
    assert kinds <= {"", "bash", "json", "python", "text", "yaml"}


def test_blocks_are_taken_apart_as_a_shell_does(tmp_path):
    code = (
        "dir=photos  # mine\n"
        "for seed in 1 2; do\n"
        '  A=b python -m segp_ext.train --seed $seed \\\n    --data.root "$dir" && segp doctor\n'
        "done\n"
    )
    found = commands(Block("page", 1, "bash", code), tmp_path)
    train = ["python", "-m", "segp_ext.train", "--seed", "1", "--data.root", "photos"]
    assert found[:2] == [train, ["segp", "doctor"]] and found[2][4] == "2" and len(found) == 4
    assert of_package(["torchrun", "-n", "2", "-m", "segp_ext.train", "--seed", "1"]) == ("train", ["--seed", "1"])
    with pytest.raises(ValueError, match="page, line 1: .*No such file"):
        commands(Block("page", 1, "bash", "scripts/absent.sh\n"), tmp_path)
