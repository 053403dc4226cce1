"""--help shows what matters most and fits a terminal; --help all explains every setting."""

import subprocess
import sys

import pytest

from segp_ext import compare, doctor, predict, train
from segp_ext.config import Config
from segp_ext.config.setting import facts_of
from segp_ext.run.help import build_parser

FACTS = facts_of(Config)
SHORT = [name for name, facts in FACTS.items() if facts.short_help]


def shown(main, arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code in (0, None)
    return capsys.readouterr().out


def settings_in(text):
    """The settings that a help lists, in order."""
    options = [line.split()[0].removeprefix("--") for line in text.splitlines() if line.startswith("  --")]
    return [option for option in options if option in FACTS]


@pytest.mark.parametrize("main", [train.main, doctor.main, compare.main, predict.main])
@pytest.mark.parametrize("asked", [["--help"], ["--help", "all"]])
def test_help_fits_a_terminal(main, asked, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    text = shown(main, asked, capsys)
    assert text.startswith("usage: python -m segp_ext.")
    assert max(map(len, text.splitlines())) <= 80 and "examples:\n  python -m segp_ext." in text
    assert main is predict.main or "--help all" in text


@pytest.mark.parametrize("main", [train.main, doctor.main])
def test_help_shows_the_settings_that_matter_most(main, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    text = shown(main, ["--help"], capsys)
    assert sorted(settings_in(text)) == sorted(SHORT) and 18 <= len(SHORT) <= 26
    assert len(text.splitlines()) < 130 and f"--help all shows all {len(FACTS)} settings" in " ".join(text.split())
    assert "Data set: folder (your images), digits, " in " ".join(text.split())
    assert " (default: digits" not in text and "Settings of a whole run" not in text


@pytest.mark.parametrize("asked", [["--help", "all"], ["-h", "all"], ["--help=all"]])
def test_help_all_explains_every_setting(asked, capsys):
    text = " ".join(shown(train.main, asked, capsys).split())
    listed = [word.removeprefix("--") for word in text.split() if word.startswith("--")]
    assert set(FACTS) <= set(listed)
    for said in (
        "Largest change of a pixel from its seed, in units of [0, 1]. (default: 0.12; the paper: 4/255, equation 10; ",
        "--training.accumulate N Parts in which the images of a step pass through the encoder, to save memory. The step stays the same. "
        "(default: 1; ours; may change on --resume)",
        "--data.name NAME Data set: ",
        "stanford-cars, sun397; default: auto; set by --protocol)",
        "--lora {NAME: VALUE, ...} Several settings of this section at once.",
        "--print_config",
        "dotted names",
    ):
        assert said in text


def test_help_shows_defaults_as_they_hold_with_the_other_options(capsys):
    text = " ".join(shown(train.main, ["--config=clip", "--training.epochs=7", "--help"], capsys).split())
    assert "0 leaves the model frozen. (default: 7)" in text
    assert "Prompt of a class. (default: a photo of a {}.)" in text


def test_errors_say_where_help_is(capsys):
    with pytest.raises(SystemExit) as stop:
        build_parser("doctor", "", {"--quick": "Be quick."}).error("100 % wrong")
    said = capsys.readouterr().err
    assert stop.value.code == 2 and said.startswith("usage: python -m segp_ext.doctor [--quick] [--config FILE] ")
    assert said.endswith("tip: python -m segp_ext.doctor --help shows the options\nerror: 100 % wrong\n")


@pytest.mark.slow
def test_help_and_settings_do_without_docstrings():
    for asked, holds in (("--help", "Folder of the data set."), ("--print_config", "  root: null")):
        command = [sys.executable, "-OO", "-m", "segp_ext.train", asked]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0 and done.stderr == "" and holds in done.stdout


@pytest.mark.parametrize(
    "arguments", [[], ["--methods", "foo", "--out=x"], ["--jobs=0", "--out=x"], ["--out=x", "--training.epochs=-1"]]
)
def test_compare_has_one_usage(arguments, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    usage = shown(compare.main, ["--help"], capsys).partition("\n\n")[0]
    assert "--method " not in usage and "--seed " not in usage and "--config FILE" in usage
    with pytest.raises(SystemExit):
        compare.main(arguments)
    assert capsys.readouterr().err.startswith(f"{usage}\ntip: ")


@pytest.mark.parametrize("main", [train.main, doctor.main, compare.main])
@pytest.mark.parametrize("columns", [50, 61, 80, 97])
def test_a_usage_breaks_between_options(main, columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(columns))
    usage = shown(main, ["--help"], capsys).partition("\n\n")[0]
    assert all(len(line) <= columns and line.count("[") == line.count("]") for line in usage.splitlines())
