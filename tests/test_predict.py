"""The prediction command on the checkpoints of a run."""

import pytest
from made import learnt_glyph, made_images
from PIL import Image

from segp_ext import predict
from segp_ext.data.digits import digits


@pytest.fixture(scope="module")
def learner():
    return learnt_glyph()


def test_the_predict_command_names_image_files(finished, tmp_path, capsys):

    collection = digits()
    Image.fromarray(collection.opener(collection.test[0][0])[0]).save(tmp_path / "zero.png")
    assert predict.main([str(finished), str(tmp_path / "zero.png"), "--topk=2", "--path=visual"]) == 0
    line = capsys.readouterr().out
    assert "zero.png: 0 " in line and line.count("%") == 2
    assert predict.main([str(tmp_path), str(tmp_path / "zero.png")]) == 2
    assert "no checkpoint at" in capsys.readouterr().err
    assert predict.main([str(finished), str(tmp_path / "gone.png")]) == 2
    assert "gone.png" in capsys.readouterr().err


def test_the_predict_command_takes_folders_and_patterns_and_goes_on_after_a_bad_file(learner, tmp_path, capsys):
    learner.save(tmp_path / "saved")
    (tmp_path / "photos/more").mkdir(parents=True)
    for number, (image, _) in enumerate(made_images(2, 2)):
        Image.fromarray(image.transpose(1, 2, 0)).save(tmp_path / f"photos/{'more/' if number > 1 else ''}{number}.png")
    (tmp_path / "photos/notes.txt").write_text("no image")

    def shown(*given):
        status = predict.main([str(tmp_path / "saved"), *map(str, given)])
        said = capsys.readouterr()
        return status, [line.split(":")[0].rpartition("/")[2] for line in said.out.splitlines()], said.err

    assert shown(tmp_path / "photos") == (0, ["0.png", "1.png", "2.png", "3.png"], "")
    assert shown(tmp_path / "photos/*.png") == (0, ["0.png", "1.png"], "")
    (tmp_path / "photos/1.png").write_bytes(b"broken")
    status, named, said = shown(tmp_path / "photos")
    assert (status, named) == (2, ["0.png", "2.png", "3.png"]) and "error: cannot read " in said and "1.png" in said
    (tmp_path / "empty").mkdir()
    for nothing, message in (("empty", "no image in the folder"), ("*.gif", "no file matches")):
        status, named, said = shown(tmp_path / nothing)
        assert (status, named) == (2, []) and message in said
        status, named, said = shown(tmp_path / "photos/0.png", tmp_path / nothing, tmp_path / "photos/more/2.png")
        assert (status, named) == (2, ["0.png", "2.png"]) and message in said
    status, named, said = shown("http://x/y.png?size=8", tmp_path / "photos/0.png")
    assert (status, named, said) == (
        2,
        ["0.png"],
        "error: http://x/y.png?size=8 is an address; download it, and give the file\n",
    )
    (tmp_path / "photos/1.png").unlink()
    (tmp_path / "photos/notes.txt").unlink()
    for pattern in ("photos/*", "p*", "photos/**", "photos/*/*", "[ep]*"):
        found = ["2.png", "3.png"] if pattern == "photos/*/*" else ["0.png", "2.png", "3.png"]
        assert shown(tmp_path / pattern) == (0, found, ""), pattern


def test_an_image_that_does_not_fit_costs_the_predict_command_no_other(learner, tmp_path, monkeypatch, capsys):
    learner.save(tmp_path / "saved")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4000)  # PIL refuses twice as many
    monkeypatch.chdir(tmp_path)
    for name, size in (("a", (8, 8)), ("b", (1, 126)), ("c", (8, 8))):
        Image.new("RGB", size).save(f"{name}.png")
    assert predict.main(["saved", "a.png", "b.png", "c.png"]) == 2
    said = capsys.readouterr()
    assert [line.split(":")[0] for line in said.out.splitlines()] == ["a.png", "c.png"]
    assert said.err.startswith("error: b.png: ") and "too narrow" in said.err and len(said.err.splitlines()) == 1


@pytest.mark.parametrize("topk", ["0", "-1"])
def test_the_predict_command_names_a_class_at_least(topk, capsys):
    with pytest.raises(SystemExit) as stop:
        predict.main(["saved", "a.png", f"--topk={topk}"])
    assert stop.value.code == 2 and f"error: --topk must be 1 or more; got {topk}\n" in capsys.readouterr().err


def test_a_name_that_begins_with_a_tilde_is_no_home_folder(learner, tmp_path, monkeypatch, capsys):
    learner.save(tmp_path / "saved")
    Image.new("RGB", (8, 8)).save(tmp_path / "~$x.png")
    monkeypatch.chdir(tmp_path)
    assert predict.main(["saved", "~$x.png"]) == 0 and "~$x.png: " in capsys.readouterr().out
    assert len(learner.predict("~$x.png")) == 1
