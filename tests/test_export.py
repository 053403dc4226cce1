"""The export command: from a saved learner or a run to a folder, and its errors in one line."""

import json

import pytest
from made import learnt_glyph, reseal
from PIL import Image

from segp_ext import export


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The folder of a saved learner; no test changes it."""
    folder = tmp_path_factory.mktemp("learner") / "saved"
    learnt_glyph().save(folder)
    return folder


def test_the_command_writes_beside_the_user_by_default(saved, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (20, 30), "red").save("red.png")
    assert export.main([str(saved), "--format", "torch", "--path=text", "--images", "red.png"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == "saved-torch: text scores of 4 classes"
    assert second.startswith("compared with the learner on 1 images: scores differ by ")
    assert (tmp_path / "saved-torch/model.pt2").is_file()


def test_a_runs_last_checkpoint_is_exported(finished, tmp_path, capsys):
    assert export.main([str(finished), "--format=open_clip", f"--out={tmp_path / 'out'}"]) == 0
    classes = json.loads((tmp_path / "out/classes.json").read_text())["classes"]
    assert [entry["task"] for entry in classes][-1] > 1
    assert f"{tmp_path / 'out'}: text scores of {len(classes)} classes\n" in capsys.readouterr().out


def test_errors_are_one_line_and_nothing_is_written(saved, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    other = tmp_path / "other"
    learnt_glyph().save(other)
    state = json.loads((other / "learner.json").read_text())
    reseal(other, {"learner.json": json.dumps({**state, "format": 9, "version": "7.0"}).encode()})
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.txt").write_text("x")
    before = {path.name for path in tmp_path.iterdir()}
    for arguments, said in (
        (["gone", "--format=torch"], "no checkpoint at "),
        (["photos", "--format=torch"], "no checkpoint at "),
        ([str(other), "--format=torch"], "its format is 9 of segp_ext 7.0; this version reads "),
        ([str(saved), "--format=torch", "--out=photos"], "photos exists and is not an export; choose another place"),
        ([str(saved), "--format=open_clip", "--path=dual"], "format open_clip gives the scores of the text path alone"),
        ([str(saved), "--format=torch", "--images", "gone.png"], "gone.png"),
        ([str(saved), "--format=torch", "--images", "photos"], "no image in the folder photos"),
    ):
        assert export.main(arguments) == 2, arguments
        said_all = capsys.readouterr()
        assert said_all.out == "" and len(said_all.err.splitlines()) == 1, said_all.err
        assert said_all.err.startswith("error: ") and said in said_all.err
    assert {path.name for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["saved"], "the following arguments are required: --format"),
        (["saved", "--format=tflite"], "invalid choice: 'tflite'"),
        (["saved", "--format=torch", "--imges", "x"], "unrecognized arguments: --imges"),
    ],
)
def test_arguments_that_do_not_fit(arguments, said, capsys):
    with pytest.raises(SystemExit) as stop:
        export.main(arguments)
    assert stop.value.code == 2 and said in capsys.readouterr().err
