"""The console command `segp`: its sub-commands, the form in which each one names itself, and its start without torch."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import segp_ext
from segp_ext.__main__ import dispatch, main
from segp_ext.runtime.program import as_typed, program

PACKAGE = Path(segp_ext.__file__).parent


MODULES = [".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts) for file in sorted(PACKAGE.rglob("*.py"))]


@pytest.mark.parametrize(
    "module", [module for module in MODULES if module.removeprefix("segp_ext.") not in segp_ext.COMMANDS]
)
def test_modules_that_are_no_command_say_so(module):
    module = module.removesuffix(".__init__")
    done = subprocess.run(
        [sys.executable, "-W", "default", "-m", module, "RUN", "-m", "x"], capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stdout == "" and "train     learn a data set" in done.stderr
    if module not in ("segp_ext", "segp_ext.__main__"):
        assert done.stderr.startswith(f"error: {module} is no command; commands:\n  python -m segp_ext.train ")


def test_the_table_of_commands_is_that_of_the_modules_that_run():
    runs = [
        module.removeprefix("segp_ext.")
        for module in MODULES
        if "\nif __name__ == " in (PACKAGE.parent / f"{module.replace('.', '/')}.py").read_text()
    ]
    assert sorted(runs) == sorted(["__main__", *segp_ext.COMMANDS])


@pytest.mark.parametrize("asked", [[], ["-h"], ["--help"]])
def test_help_lists_all_commands(asked, capsys):
    assert dispatch(asked) == 0
    shown = capsys.readouterr().out
    listed = shown.partition("commands:\n")[2].partition("\n\n")[0].splitlines()
    assert [line.split()[0] for line in listed] == [*segp_ext.COMMANDS] and "--version" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_version(capsys):
    assert dispatch(["--version"]) == 0
    assert capsys.readouterr().out == f"segp_ext {segp_ext.__version__}\n"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("trian", "unknown command 'trian'; close: train\n"),
        ("comparison", "unknown command 'comparison'; close: compare\n"),
        ("xyz", "unknown command 'xyz'\n"),
        ("--versoin", "unknown option '--versoin'; close: --version\n"),
    ],
)
def test_an_unknown_command_is_named_with_close_ones(asked, said, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/segp", asked])
    assert dispatch([asked]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith(f"segp: error: {said}\nusage: segp COMMAND")


FORMS = [
    ("/usr/local/bin/segp", "segp", "segp {}"),
    (r"segp.exe", "segp", "segp {}"),
    (str(PACKAGE / "__main__.py"), "python -m segp_ext", "python -m segp_ext {}"),
    (str(PACKAGE / "train.py"), "python -m segp_ext", "python -m segp_ext.{}"),
    ("/x/pytest/__main__.py", "python -m segp_ext", "python -m segp_ext.{}"),
    ("", "python -m segp_ext", "python -m segp_ext.{}"),
]


@pytest.mark.parametrize(("started", "alone", "with_command"), FORMS)
def test_a_command_is_named_as_it_was_started(started, alone, with_command, monkeypatch):
    monkeypatch.setattr(sys, "argv", [started])
    assert program() == alone and program("train") == with_command.format("train")
    text = "see python -m segp_ext.doctor --help, or python -m segp_ext.train"
    assert as_typed(text) == f"see {with_command.format('doctor')} --help, or {with_command.format('train')}"


@pytest.mark.parametrize("command", segp_ext.COMMANDS)
def test_every_command_shows_the_form_that_was_typed(command, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/segp", command, "--help"])
    with pytest.raises(SystemExit) as stop:
        dispatch([command, "--help"])
    shown = capsys.readouterr().out
    assert stop.value.code in (0, None) and shown.startswith(f"usage: segp {command} ")
    assert f"examples:\n  segp {command}" in shown and "python -m" not in shown
    with pytest.raises(SystemExit) as stop:
        dispatch([command, "--no-such-option"])
    said = capsys.readouterr().err
    assert stop.value.code == 2 and said.startswith(f"usage: segp {command} ") and "error: " in said


def test_a_command_gets_its_arguments_and_its_status_ends_the_process(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["segp", "doctor", "--data.root", "x"])
    monkeypatch.setattr("segp_ext.doctor.main", lambda argv: 7 if argv == ["--data.root", "x"] else 1)
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 7


ADDED = """
import os, sys, types
import segp_ext
segp_ext.COMMANDS["added"] = "a command that a later version has"
module = sys.modules["segp_ext.added"] = types.ModuleType("added")
module.main = lambda argv: print(argv, os.environ.get("OMP_WAIT_POLICY"), "torch" in sys.modules)
from segp_ext.__main__ import main
sys.argv = ["segp", *sys.argv[1:]]
main()
"""


@pytest.mark.parametrize("own", [None, "active"])
def test_an_entry_in_the_table_adds_a_command_that_starts_without_torch(own):
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    environment |= {} if own is None else {"OMP_WAIT_POLICY": own}
    command = [sys.executable, "-c", ADDED, "added", "--an", "option"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.stdout == f"['--an', 'option'] {own or 'PASSIVE'} False\n", done.stderr


def test_the_installed_command_is_this_one():
    """As pip makes it: a script that imports the function and calls it."""
    project = tomllib.loads((Path(__file__).resolve().parents[1] / "pyproject.toml").read_text())["project"]
    assert list(project["scripts"]) == ["segp"]
    module, _, function = project["scripts"]["segp"].partition(":")
    assert getattr(importlib.import_module(module), function) is main


@pytest.mark.parametrize(
    ("started", "options", "first"), [("segp", [], True), ("segp", ["-P"], False), ("x", [], False)]
)
def test_the_installed_command_finds_modules_in_the_current_folder(started, options, first, tmp_path):
    """As `python -m` does, unless Python was told to leave that folder out (-P)."""
    code = (
        f"import os, sys; sys.path.remove('') if '' in sys.path else 0; sys.argv = ['/bin/{started}', '--version'];"
        "import atexit; atexit.register(lambda: print(sys.path[0] == os.getcwd()));"
        "from segp_ext.__main__ import main; main()"
    )
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
    command = [sys.executable, *options, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.stdout.splitlines()[-1] == str(first), done.stderr


@pytest.mark.parametrize("own", [None, "active"])
def test_commands_let_threads_wait_without_spinning(own):
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    environment |= {} if own is None else {"OMP_WAIT_POLICY": own}
    asks = "import runpy, os, sys; import segp_ext; print(os.environ.get('OMP_WAIT_POLICY'), 'torch' in sys.modules)"
    as_library = subprocess.run([sys.executable, "-c", asks], capture_output=True, text=True, env=environment).stdout
    assert as_library.split()[0] == str(own)
    asks = "import sys; sys.argv = ['-m']; " + asks
    as_command = subprocess.run([sys.executable, "-c", asks], capture_output=True, text=True, env=environment).stdout
    assert as_command.split() == ["PASSIVE" if own is None else own, "False"]
