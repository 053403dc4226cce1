"""The prediction command on saved learners and on the checkpoints of a run."""

import csv
import io
import json
import sys

import pytest
import torch
from made import learnt_glyph, made_images
from PIL import Image

from segp_ext import predict
from segp_ext.clip.pretrained import load_clip
from segp_ext.config import CalibrationConfig, MethodConfig
from segp_ext.data.digits import digits
from segp_ext.method.learner import SeGPCL
from segp_ext.runtime import progress


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("learner") / "saved"
    learnt_glyph().save(folder)
    return folder


@pytest.fixture
def photos(tmp_path):
    """Four images, two of them in a folder inside; hidden files and a text lie beside them."""
    (tmp_path / "photos/more").mkdir(parents=True)
    for number, (image, _) in enumerate(made_images(2, 2)):
        Image.fromarray(image.transpose(1, 2, 0)).save(tmp_path / f"photos/{'more/' if number > 1 else ''}{number}.png")
    (tmp_path / "photos/notes.txt").write_text("no image")
    (tmp_path / "photos/.hidden.png").write_bytes(b"hidden")
    return tmp_path / "photos"


@pytest.fixture
def ask(saved, capsys):
    """Runs the command on the saved learner; returns its status, its rows as CSV has them, and its errors."""

    def asked(*given):
        status = predict.main([str(saved), *map(str, given)])
        said = capsys.readouterr()
        return status, list(csv.DictReader(io.StringIO(said.out))), said.err

    return asked


def names_of(rows):
    return [row["path"].rpartition("/")[2] for row in rows]


def test_a_run_names_image_files(finished, tmp_path, capsys):
    collection = digits()
    Image.fromarray(collection.opener(collection.test[0][0])[0]).save(tmp_path / "zero.png")
    assert predict.main([str(finished), str(tmp_path / "zero.png"), "--topk=2", "--path=visual"]) == 0
    head, line = capsys.readouterr().out.splitlines()[-2:]
    assert head == "path,name,score,name_2,score_2,error" and line.startswith(f"{tmp_path}/zero.png,0,")
    assert predict.main([str(tmp_path), str(tmp_path / "zero.png")]) == 2
    assert "error: no checkpoint at" in capsys.readouterr().err


def test_rows_have_what_the_learner_predicts(saved, photos, ask):
    learner = SeGPCL.load(saved)
    files = [photos / "0.png", photos / "1.png", photos / "more/2.png", photos / "more/3.png"]
    for given in ((), ("--path=text", "--batch_size=3"), ("--topk=9", "--workers=1", "--batch_size=1")):
        status, rows, said = ask(photos, *given)
        assert (status, said) == (0, "") and [row["path"] for row in rows] == [str(file) for file in files]
        path, topk = ("text", 3) if "--path=text" in given else (None, 9 if given else 3)
        for row, expected in zip(rows, learner.predict(files, topk, path), strict=True):
            shown = [row["name"], *(row[f"name_{place}"] for place in range(2, len(expected) + 1))]
            assert shown == [prediction.name for prediction in expected] and row["error"] == ""
            assert float(row["score"]) == pytest.approx(expected[0].score, abs=1e-5)


def test_folders_patterns_and_lists_are_taken(photos, ask, monkeypatch):
    everything = ["0.png", "1.png", "2.png", "3.png"]
    assert names_of(ask(photos)[1]) == everything
    monkeypatch.chdir(photos.parent)
    (photos / "notes.txt").unlink()
    for pattern in ("photos/*", "p*", "photos/**", "photos/*/*", "[ep]*"):
        assert names_of(ask(pattern)[1]) == (everything[2:] if pattern == "photos/*/*" else everything), pattern
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"photos/more\r\n\nphotos/0.png\n")))
    status, rows, said = ask("photos/1.png", "-")
    assert (status, names_of(rows), said) == (0, ["1.png", "2.png", "3.png", "0.png"], "")


def test_what_is_not_there_is_named_before_the_learner_is_loaded(photos, ask, monkeypatch):
    monkeypatch.setattr(SeGPCL, "load", None)
    monkeypatch.chdir(photos.parent)
    (photos.parent / "empty").mkdir()
    (photos.parent / "photos/.hidden").mkdir()
    for given, message in (
        (["gone.png"], "there is no file or folder gone.png\n"),
        (["empty"], "no image in the folder empty (known endings: "),
        (["*.gif"], "no file matches *.gif (known"),
        (["http://x/y.png?size=8"], "http://x/y.png?size=8 is an address; download it, and give the file\n"),
        (["photos/0.png", "a", "b", "c", "d"], "folder a, there is no file or folder b, there is no file or folder c and 1 more\n"),
        (["photos", "--out", "gone/x.csv"], "--out gone/x.csv: there is no folder gone\n"),
        (["photos", "--out", "photos", "--format=csv"], "--out photos is there, and is no plain file\n"),
        (["photos", "--out", "x.doc"], "--out x.doc: the ending '.doc' stands for no format; add --format, or use .csv"),
        (["photos", "--format", "parquet"], "--format parquet needs a file: add --out FILE\n"),
    ):  # fmt: skip
        status, rows, said = ask(*given)
        assert (status, rows) == (2, []) and said.startswith("error: ") and message in said, given
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\n")))
    assert ask("-") == (2, [], "error: no path on standard input\n")


def test_an_image_that_cannot_be_read_is_a_row_and_the_rest_goes_on(photos, ask):
    before = ask(photos)[1]
    (photos / "1.png").write_bytes(b"broken")
    for given in ((), ("--batch_size=1",), ("--batch_size=3", "--workers=2")):
        status, rows, said = ask(photos, *given)
        assert status == 1 and said == "error: 1 of 4 images could not be named; their rows say why\n"
        assert rows[1]["name"] == rows[1]["score_3"] == "" and rows[1]["error"].startswith("cannot read ")
        assert [row["name"] for row in rows[:1] + rows[2:]] == [row["name"] for row in before[:1] + before[2:]]
    for name in ("0.png", "more/2.png", "more/3.png"):
        (photos / name).write_bytes(b"")
    status, rows, said = ask(photos)
    assert status == 1 and said.startswith("error: 4 of 4 ") and all(row["error"] for row in rows)


def test_an_image_that_does_not_fit_costs_no_other(ask, tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4000)  # PIL refuses twice as many
    monkeypatch.chdir(tmp_path)
    for name, size in (("a", (8, 8)), ("b", (1, 126)), ("c", (8, 8))):
        Image.new("RGB", size).save(f"{name}.png")
    status, rows, _ = ask("a.png", "b.png", "c.png")
    assert status == 1 and [bool(row["name"]) for row in rows] == [True, False, True]
    assert rows[1]["error"].startswith("b.png: ") and "too narrow" in rows[1]["error"]


def test_names_that_were_never_learnt_compete(saved, photos, ask):
    expected = SeGPCL.load(saved).predict(photos / "0.png", topk=None, others=["a zebra", "lion"])[0]
    status, (row,), _ = ask(photos / "0.png", "--topk=99", "--others", "a zebra", "--others", "lion")
    assert status == 0 and [row["name"], *(row[f"name_{n}"] for n in range(2, 7))] == [p.name for p in expected]
    status, rows, said = ask(photos / "0.png", "--others", "0")
    assert (status, rows) == (2, []) and said.startswith("error: others: class name '0' is learnt already")


def test_images_of_no_learnt_class_are_called_unknown(ask, tmp_path, photos, capsys):
    learner = SeGPCL(load_clip("glyph"), MethodConfig(method="rda", calibration=CalibrationConfig(fraction=0.3)))
    learner.learn_task(made_images(4, 12), ["0", "1", "2", "3"])
    learner.save(tmp_path / "calibrated")
    for rate in ("0.999", "0.5", "0.001"):
        given = [str(photos / "0.png"), f"--unknown={rate}", "--topk=1"]
        assert predict.main([str(tmp_path / "calibrated"), *given]) == 0
        head, line = capsys.readouterr().out.splitlines()
        ((name, score),) = learner.predict(photos / "0.png", 1, unknown=float(rate))[0]
        verdict = "false" if name is not None else "true"
        assert head == "path,name,score,unknown,error"
        assert line == f"{photos}/0.png,{name or ''},{score:.6g},{verdict},"
        assert rate == "0.5" or verdict == ("true" if rate == "0.999" else "false")
    status, rows, said = ask(*given)
    assert (status, rows) == (2, []) and said.startswith("error: this learner knows no limit for unknown images")
    assert said.count("\n") == 1


def test_a_path_that_the_learner_lacks_is_refused_before_a_row(photos, ask):
    status, rows, said = ask(photos, "--path=frozen")
    assert (status, rows) == (2, []) and said.startswith("error: path must be one of text, visual, dual; got 'frozen'")


@pytest.mark.parametrize("rate", ["0", "1", "-0.5", "nan"])
def test_a_rate_out_of_range_is_refused(rate, capsys):
    with pytest.raises(SystemExit) as stop:
        predict.main(["saved", "a.png", f"--unknown={rate}"])
    assert stop.value.code == 2
    assert f"error: --unknown must be above 0 and below 1; got {float(rate)}\n" in capsys.readouterr().err


def test_rows_go_to_a_file_that_appears_whole(photos, ask, tmp_path, monkeypatch):
    out = tmp_path / "rows.jsonl"
    assert ask(photos, "--out", out) == (0, [], "")
    first = out.read_text()
    assert [json.loads(line)["path"][-5:] for line in first.splitlines()] == ["0.png", "1.png", "2.png", "3.png"]
    read = predict.FilePredictor.rows

    def interrupted(self, files):
        yield next(read(self, files))
        raise KeyboardInterrupt

    monkeypatch.setattr(predict.FilePredictor, "rows", interrupted)
    assert ask(photos, "--out", out, "--batch_size=1") == (130, [], "interrupted\n")
    assert out.read_text() == first and [file.name for file in tmp_path.iterdir() if "rows" in file.name] == [out.name]


def test_a_terminal_gets_a_table(saved, photos, capsys, monkeypatch):
    monkeypatch.setattr(predict, "is_terminal", lambda stream: stream is sys.stdout)
    monkeypatch.chdir(photos)
    assert predict.main([str(saved), ".", "--topk=1"]) == 0
    head, rule, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["path", "name", "score"] and {*rule} == {"─"} and len(rule) == len(head)
    assert len(lines) == 4 and all(line.endswith(" %") and len(line) == len(head) for line in lines)


def test_progress_is_shown_on_a_terminal(saved, photos, capsys, monkeypatch):
    monkeypatch.setattr(progress, "is_terminal", lambda stream: stream is sys.stderr)
    assert predict.main([str(saved), str(photos), "--batch_size=1"]) == 0
    said = capsys.readouterr()
    assert "predicting:   0%" in said.err and "0/4" in said.err and len(said.out.splitlines()) == 5


def test_memory_that_runs_out_is_said(photos, ask, monkeypatch):
    def full(*given):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")

    monkeypatch.setattr(predict.FilePredictor, "_answered", full)
    status, _, said = ask(photos)
    assert status == 2 and said == "error: the GPU's memory ran out; lower --batch_size\n"


@pytest.mark.parametrize(("name", "least", "wrong"), [("topk", 1, 0), ("batch_size", 1, -1), ("workers", 0, -1)])
def test_numbers_that_make_no_sense_are_refused(name, least, wrong, capsys):
    with pytest.raises(SystemExit) as stop:
        predict.main(["saved", "a.png", f"--{name}={wrong}"])
    assert stop.value.code == 2 and f"error: --{name} must be {least} or more; got {wrong}\n" in capsys.readouterr().err


def test_a_name_that_begins_with_a_tilde_is_no_home_folder(saved, ask, tmp_path, monkeypatch):
    Image.new("RGB", (8, 8)).save(tmp_path / "~$x.png")
    monkeypatch.chdir(tmp_path)
    status, rows, _ = ask("~$x.png")
    assert status == 0 and names_of(rows) == ["~$x.png"]
    assert len(SeGPCL.load(saved).predict("~$x.png")) == 1
