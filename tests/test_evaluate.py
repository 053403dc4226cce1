"""The command that measures a saved learner on a folder."""

import json

import pytest
from made import learnt_glyph, made_images
from PIL import Image

from segp_ext import evaluate
from segp_ext.method.learner import SeGPCL
from segp_ext.report.evaluation_result import Evaluation


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("learner") / "saved"
    learnt_glyph().save(folder)
    return folder


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Two images of each of two learnt classes, and of one that was not learnt; the command runs beside the folder."""
    monkeypatch.chdir(tmp_path)
    for place, name in enumerate(("0", "1", "x")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number, (image, _) in enumerate(made_images(1, 2, seed=place)):
            Image.fromarray(image.transpose(1, 2, 0)).save(tmp_path / f"photos/{name}/{number}.png")
    return tmp_path / "photos"


@pytest.fixture
def ask(saved, capsys):
    """Runs the command on the saved learner; returns its status, its output and its errors."""

    def asked(*given):
        status = evaluate.main([str(saved), *map(str, given)])
        said = capsys.readouterr()
        return status, said.out, said.err

    return asked


def test_a_folder_is_measured(photos, ask, tmp_path):
    status, out, said = ask("photos")
    assert (status, said) == (0, "")
    assert out.startswith("saved (dual path) gets ") and out.endswith("\n\nAll of it: saved-evaluation/report.html\n")
    found = Evaluation.read(tmp_path / "saved-evaluation/evaluation.json")
    assert (found.images, found.folder, found.unread) == (4, "photos", []) and found.unknown is not None
    assert found.unknown.images == 2
    status, out, said = ask("photos", "--out", "other", "--path", "text", "--json", "--batch_size=1")
    assert (status, said) == (0, "") and json.loads(out) == json.loads((tmp_path / "other/evaluation.json").read_text())
    assert Evaluation.read(tmp_path / "other/evaluation.json").path == "text"
    assert ask("photos", "--out", "other")[0] == 0  # replaced


def test_an_image_that_cannot_be_read_is_named(photos, ask):
    (photos / "1/0.png").write_bytes(b"broken")
    (photos / "1/gone.png").symlink_to("nowhere.png")
    status, out, said = ask("photos")
    assert status == 1 and "of 3 images" in out.replace("\n", " ")
    first, second, last = said.splitlines()
    assert (
        first.startswith("left out: 1/0.png: cannot read ")
        and second == "left out: 1/gone.png: no file, or a link to none"
    )
    assert last == "error: 2 of 7 images could not be read, and count nowhere"


def test_what_is_wrong_is_told_before_the_learner_is_loaded(photos, ask, tmp_path, monkeypatch):
    monkeypatch.setattr(SeGPCL, "load", None)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/notes.txt").write_text("mine")
    (tmp_path / "none").mkdir()
    none = "error: no class folders in 'none'; there: nothing; needed: FOLDER/<class>/*, or FOLDER/train/<class>/* and "
    for given, message in (
        (["gone"], "error: there is no folder gone\n"),
        (["none"], f"{none}FOLDER/test/<class>/*, of which one is enough\n"),
        (["photos", "--out", "taken"], "error: taken exists and is not an evaluation; choose another place\n"),
        (["photos", "--names_file", "gone.json"], "error: --names_file: no file 'gone.json' in the working directory or in photos\n"),
    ):  # fmt: skip
        assert ask(*given) == (2, "", message)
    assert [file.name for file in (tmp_path / "taken").iterdir()] == ["notes.txt"]


def test_other_classes_and_paths_are_refused_and_nothing_is_written(photos, ask, tmp_path):
    status, _, said = ask("photos", "--path", "auto")
    assert status == 2 and said.startswith("error: path must be one of text, visual, dual; got 'auto'")
    (photos / "0").rename(photos / "a")
    (photos / "1").rename(photos / "b")
    status, _, said = ask("photos")
    assert status == 2 and said.count("\n") == 1 and "is named like a learnt class: the folders are a, b, x" in said
    assert not (tmp_path / "saved-evaluation").exists()


def test_a_wrong_number_is_refused(capsys):
    with pytest.raises(SystemExit) as stop:
        evaluate.main(["saved", "photos", "--batch_size=0"])
    assert stop.value.code == 2 and "error: --batch_size must be 1 or more; got 0\n" in capsys.readouterr().err


def test_ctrl_c_leaves_the_older_evaluation(photos, ask, tmp_path, monkeypatch):
    assert ask("photos")[0] == 0
    before = (tmp_path / "saved-evaluation/evaluation.json").read_bytes()

    def interrupted(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluate, "evaluate_folder", interrupted)
    assert ask("photos", "--path", "text") == (130, "", "interrupted\n")
    assert (tmp_path / "saved-evaluation/evaluation.json").read_bytes() == before


def test_suspects_are_listed_instead(photos, ask, tmp_path):
    status, out, said = ask("photos", "--suspects", "--out", "found.csv")
    assert status == 0 and out.startswith("0 of 6 labels are likely wrong") and "too few images" in said
    assert (tmp_path / "found.csv").read_text() == "kind,file,given,likely,score,twin\n"
    assert not (tmp_path / "saved-evaluation").exists()
