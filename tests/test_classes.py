"""The classes command: its list, its actions, and its errors in one line."""

import json
import shutil

import pytest
from made import learnt_glyph

from segp_ext import classes
from segp_ext.method.learner import SeGPCL
from segp_ext.storage.checkpoint import read_learner
from segp_ext.storage.sealed import identity


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("learner") / "saved"
    learnt_glyph().save(folder)
    return folder


@pytest.fixture
def saved(made, tmp_path):
    shutil.copytree(made, tmp_path / "saved")
    return tmp_path / "saved"


def names(folder):
    return [record.name for record in read_learner(folder).records]


def test_the_list_needs_no_model(saved, capsys, monkeypatch):
    monkeypatch.setattr(SeGPCL, "load", None)
    assert classes.main([str(saved)]) == 0
    head, rule, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["class", "task", "images", "learnt"] and {*rule} == {"─"} and len(rule) <= 80
    assert [row.split()[:3] for row in rows] == [["0", "1", "4"], ["1", "1", "4"], ["2", "2", "4"], ["3", "2", "4"]]
    assert classes.main([str(saved), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in found] == ["0", "1", "2", "3"]
    assert found[0].keys() == {"name", "task", "images", "learnt", "wording"} and found[2]["task"] == 2


def test_a_runs_last_checkpoint_is_listed(finished, capsys):
    assert classes.main([str(finished)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2 + len(names(max((finished / "checkpoints").glob("task-*"))))


def test_the_actions_change_the_folder(saved, capsys):
    assert classes.main(["rename", str(saved), "0", "nought"]) == 0
    assert capsys.readouterr().out == f"{saved}: renamed '0' to 'nought'; the learner has 4 classes\n"
    assert classes.main(["merge", str(saved), "3", "1", "--into", "odd"]) == 0
    assert capsys.readouterr().out == f"{saved}: merged '3', '1' into 'odd'; the learner has 3 classes\n"
    assert names(saved) == ["nought", "odd", "2"]
    copy = saved.parent / "copy"
    assert classes.main(["remove", str(saved), "nought", "2", "--out", str(copy)]) == 0
    assert capsys.readouterr().out == f"{copy}: removed 'nought', '2'; the learner has 1 class\n"
    assert (names(saved), names(copy)) == (["nought", "odd", "2"], ["odd"])
    assert SeGPCL.load(copy).task_sizes == [1, 0]


def test_errors_are_one_line_and_nothing_is_changed(saved, finished, monkeypatch, capsys):
    monkeypatch.chdir(saved.parent)
    (saved.parent / "photos").mkdir()
    (saved.parent / "photos/a.txt").write_text("x")
    shutil.copytree(saved, saved.parent / "other")
    before, there = identity(saved), {entry.name for entry in saved.parent.iterdir()}
    for arguments, said in (
        (["gone"], "no checkpoint at "),
        (["rename", "gone", "a", "b"], "no checkpoint at "),
        (["rename", "saved", "8", "x"], "no class '8' has been learnt"),
        (["rename", "saved", "0", "1"], "class name '1' is learnt already"),
        (["remove", "saved", "0", "1", "2", "3"], "a learner keeps at least one class"),
        (["merge", "saved", "0", "0", "--into", "x"], "class '0' is given twice"),
        (
            ["remove", str(finished), "0"],
            "belongs to a run, whose checkpoints stay as they are; save a copy with --out",
        ),
        (
            ["remove", "saved", "0", "--out", "other"],
            "other holds another learner, which would be lost; choose another",
        ),
        (["remove", "saved", "0", "--out", "photos"], "photos exists and is not a checkpoint; choose another place"),
    ):
        assert classes.main(arguments) == 2, arguments
        shown = capsys.readouterr()
        assert shown.out == "" and len(shown.err.splitlines()) == 1, shown.err
        assert shown.err.startswith("error: ") and said in shown.err
    assert identity(saved) == before and {entry.name for entry in saved.parent.iterdir()} == there


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "the following arguments are required: LEARNER"),
        (["rename", "saved", "0"], "the following arguments are required: NEW"),
        (["remove", "saved"], "the following arguments are required: NAME"),
        (["merge", "saved", "0", "1"], "the following arguments are required: --into"),
        (["merge", "saved", "0", "1", "--ito", "x"], "the following arguments are required: --into"),
        (["saved", "--jsn"], "unrecognized arguments: --jsn; close: --json"),
    ],
)
def test_arguments_that_do_not_fit(arguments, said, capsys):
    with pytest.raises(SystemExit) as stop:
        classes.main(arguments)
    assert stop.value.code == 2 and said in capsys.readouterr().err


def test_ctrl_c_leaves_the_learner(saved, monkeypatch, capsys):
    before = identity(saved)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(SeGPCL, "save", interrupted)
    assert classes.main(["rename", str(saved), "0", "x"]) == 130
    assert capsys.readouterr().err == "interrupted; the learner is as it was\n" and identity(saved) == before


def test_help_names_the_command_as_it_was_typed(capsys):
    for asked, usage in ((["--help"], "classes [-h]"), (["merge", "--help"], "classes merge [-h]")):
        with pytest.raises(SystemExit) as stop:
            classes.main(asked)
        shown = capsys.readouterr().out
        assert stop.value.code == 0 and f"segp_ext.{usage}" in shown and "examples:" in shown
