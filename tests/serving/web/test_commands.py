"""The programs that change the learner: what they are given, and what they say."""

from __future__ import annotations

import pytest
from web_service import program

from segp_ext.serving.web import commands
from segp_ext.serving.web.commands import Commands, checked_name, rename, what_failed
from segp_ext.serving.web.limits import RefusedError


@pytest.mark.parametrize(
    ("given", "name"),
    [("red fox", "red fox"), ("  red__fox ", "red fox"), ("<script>", "<script>"), ("cafe\u0301", "café"), ("犬", "犬"), ("%s", "%s")],
)  # fmt: skip
def test_names_are_as_the_learner_will_have_them(given, name):
    assert checked_name(given) == name


@pytest.mark.parametrize(
    "given",
    ["", " _ ", "a/b", "..", ".hidden", "a\\b", "a\nb\x00", "x" * 201, "-x", "--help", "#recycle", "\u202ex", "\ud800", 3, None],
)  # fmt: skip
def test_names_that_no_folder_or_program_may_get_are_refused(given):
    with pytest.raises(RefusedError) as error:
        checked_name(given)
    assert error.value.status == 422 and "\n" not in error.value.message


def test_renaming_gives_the_names_as_they_are(tmp_path):
    called = program(tmp_path, f"import sys; open({str(tmp_path / 'out')!r}, 'w').write(repr(sys.argv[1:]))")
    rename(Commands(rename=called), tmp_path, "a; b", "$(c) 'd'")
    assert (tmp_path / "out").read_text() == repr([str(tmp_path), "a; b", "$(c) 'd'"])


def test_a_refusal_is_passed_on(tmp_path):
    called = program(tmp_path, "import sys; sys.exit('error: no class is called x; close: y')")
    with pytest.raises(RefusedError) as error:
        rename(Commands(rename=called), tmp_path, "x", "y")
    assert (error.value.status, error.value.message) == (409, "no class is called x; close: y")


def test_a_program_that_does_not_end_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(commands, "SECONDS", 0.3)
    with pytest.raises(RefusedError) as error:
        rename(Commands(rename=program(tmp_path, "import time; time.sleep(60)")), tmp_path, "x", "y")
    assert error.value.status == 503 and "took more than 0.3 seconds" in error.value.message


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("warning: a\nerror: b\nmore\n", "b"),
        ("usage: x\npython -m segp_ext.learn: error: c\n", "c"),
        ("Traceback:\n  File\nValueError: d\n", "ValueError: d"),
        ("\n", "the program ended with status 3 and said nothing"),
    ],
)
def test_the_line_that_says_why(said, message):
    assert what_failed(3, said) == message
