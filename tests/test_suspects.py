"""The command that lists likely wrong labels of a folder."""

import csv

import pytest
from made import learnt_glyph
from PIL import Image

from segp_ext import suspects
from segp_ext.data.digits import digits
from segp_ext.method.learner import SeGPCL


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("learner") / "saved"
    learnt_glyph().save(folder)
    return folder


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Forty images of each of three digits; one 7 is labelled 0, and one 0 is there as a 4 too."""
    root = tmp_path_factory.mktemp("digits") / "digits"
    found = digits()
    for name in ("0", "4", "7"):
        (root / "train" / name).mkdir(parents=True)
        for number, source in enumerate(found.train[found.class_names.index(name)][:40]):
            Image.fromarray(found.opener(source).transpose(1, 2, 0)).save(root / f"train/{name}/{number:02}.png")
    (root / "train/7/05.png").rename(root / "train/0/wrong.png")
    (root / "test/4").mkdir(parents=True)
    (root / "test/4/again.png").write_bytes((root / "train/0/00.png").read_bytes())
    (root / "train/4/broken.png").write_bytes(b"broken")
    return root


@pytest.fixture
def ask(saved, capsys):
    def asked(*given):
        status = suspects.main([str(saved), *map(str, given)])
        said = capsys.readouterr()
        return status, said.out, said.err

    return asked


def test_wrong_labels_and_twins_of_all_parts_are_listed(written, ask, tmp_path):
    status, out, said = ask(written, "--out", tmp_path / "found.csv")
    assert status == 0 and said.startswith("left out: train/4/broken.png: cannot read ") and said.count("\n") == 1
    rows = list(csv.DictReader((tmp_path / "found.csv").open()))
    likely = {row["file"]: (row["given"], row["likely"]) for row in rows if row["kind"] == "label"}
    assert likely["train/0/wrong.png"] == ("0", "7") and likely["test/4/again.png"] == ("4", "0") and len(likely) < 6
    (twin,) = [row for row in rows if row["kind"] == "same pixels"]
    assert (twin["file"], twin["given"], twin["likely"], twin["twin"]) == (
        "test/4/again.png",
        "4",
        "0",
        "train/0/00.png",
    )
    assert "train/0/wrong.png  0" in out and "The same image with two labels" in out
    assert ask(written)[1] == out  # the same every time


def test_features_are_those_of_the_pre_trained_model(written, ask, monkeypatch):
    given = []
    original = suspects.find_suspects

    def seen(backbone, *others):
        given.append(backbone)
        return original(backbone, *others)

    monkeypatch.setattr(suspects, "find_suspects", seen)
    assert ask(written)[0] == 0
    assert given[0].adapter_state() == {}


def test_a_model_that_cannot_tell_the_classes_apart_is_told(written, ask, monkeypatch):
    monkeypatch.setattr(suspects, "WEAK", 1.01)
    status, _, said = ask(written)
    assert status == 0 and "note: this learner's model tells the labels apart in 9" in said


def test_what_is_wrong_is_told_before_the_learner_is_loaded(written, ask, tmp_path, monkeypatch):
    monkeypatch.setattr(SeGPCL, "load", None)
    assert ask(tmp_path / "gone") == (2, "", f"error: there is no folder {tmp_path / 'gone'}\n")
    status, _, said = ask(written, "--out", tmp_path / "no/x.csv")
    assert status == 2 and said == f"error: --out {tmp_path / 'no/x.csv'}: there is no folder {tmp_path / 'no'}\n"
