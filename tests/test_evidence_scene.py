"""The commands behind docs/evidence.md that make a model and scenes: pre-training, looks and scenes on made images."""

import json

import numpy as np
import pytest
import torch
from called import call
from PIL import Image

import segp_ext
from evidence import looks, pretrain, scene

pytestmark = pytest.mark.slow


NAMES = {"n1": ["dog"], "n2": ["cat", "kitten"], "n3": ["red bus"], "n4": ["tree"]}


@pytest.fixture(scope="module")
def tiny_imagenet(tmp_path_factory):
    """Tiny-ImageNet's layout: each class's images are of one colour and some noise."""
    root, draw = tmp_path_factory.mktemp("tin"), np.random.RandomState(0)
    (root / "val/images").mkdir(parents=True)
    rows = []
    for colour, wnid in zip((40, 100, 160, 220), NAMES, strict=True):
        (root / f"train/{wnid}/images").mkdir(parents=True)
        for number in range(9):
            image = Image.fromarray(np.uint8(colour + draw.randint(-15, 16, (32, 32, 3))))
            if number < 6:
                image.save(root / f"train/{wnid}/images/{wnid}_{number}.JPEG")
            else:
                image.save(root / f"val/images/val_{wnid}_{number}.JPEG")
                rows.append(f"val_{wnid}_{number}.JPEG\t{wnid}\t0\t0\t1\t1\n")
    (root / "val/val_annotations.txt").write_text("".join(rows))
    (root / "names.json").write_text(json.dumps(NAMES))
    return root


@pytest.fixture(scope="module")
def model(tiny_imagenet, tmp_path_factory):
    """What pre-training writes, stopped once on the way."""
    out = tmp_path_factory.mktemp("pretrained") / "model"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrain, "HELD_OUT", 3)
        given = ["--data", tiny_imagenet, "--names", tiny_imagenet / "names.json", "--out", out, "--batch_size", 6]
        given += ["--epochs", 3, "--threads", torch.get_num_threads(), "--device", "cpu"]
        call(pretrain.main, patch, *given, "--minutes", 0)
        stopped = json.loads((out / "pretrain.json").read_text())
        call(pretrain.main, patch, *given)
    return out, stopped


def test_pretraining_stops_goes_on_and_writes_a_model_that_loads(model):
    out, stopped = model
    report = json.loads((out / "pretrain.json").read_text())
    assert (stopped["epochs"], report["epochs"], report["of"]) == (0, 3, 3) and len(report["losses"]) == 3
    assert report["zero-shot by class, scene"].keys() == NAMES.keys()
    mean = sum(report["zero-shot by class, scene"].values()) / 4
    assert report["zero-shot over all classes"]["scene"] == pytest.approx(mean, abs=1e-3)
    backbone = segp_ext.load_clip(f"local-dir:{out}")
    embedding, feature = backbone.encode_image(torch.rand(2, 3, 32, 32))
    assert embedding.shape == (2, 128) and feature.shape == (2, 512)


def test_pretraining_goes_on_with_its_own_options_alone(model, tiny_imagenet, monkeypatch, capsys):
    monkeypatch.setattr(pretrain, "HELD_OUT", 3)
    given = ["--data", tiny_imagenet, "--names", tiny_imagenet / "names.json", "--out", model[0], "--batch_size", 6]
    with pytest.raises(SystemExit):
        call(pretrain.main, monkeypatch, *given, "--epochs", 5, "--device", "cpu")
    assert "it was begun with --epochs 3; got 5" in capsys.readouterr().err


def test_the_held_out_images_are_never_trained_on(tiny_imagenet, monkeypatch):
    monkeypatch.setattr(pretrain, "HELD_OUT", 2)
    seen, labels = pretrain.images(tiny_imagenet, sorted(NAMES), "train")
    held, _ = pretrain.images(tiny_imagenet, sorted(NAMES), "scene")
    assert len(seen) == 16 and len(held) == 8 and labels.bincount().tolist() == [4] * 4
    assert not any((a == b).all() for a in seen for b in held)


def test_a_scene_takes_the_classes_that_the_model_knows(tiny_imagenet, model, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain, "HELD_OUT", 3)
    knows = tmp_path / "model"
    knows.mkdir()
    by_class = {"n1": 0.1, "n2": 0.9, "n3": 0.8, "n4": 0.2}
    (knows / "pretrain.json").write_text(json.dumps({"zero-shot by class, scene": by_class}))
    given = [
        "--data",
        tiny_imagenet,
        "--names",
        tiny_imagenet / "names.json",
        "--model",
        knows,
        "--seed",
        3,
        "--known",
        2,
    ]
    call(scene.main, monkeypatch, *given, "--tasks", 2, "--classes", 1, "--images", 2, "--out", tmp_path / "out")
    facts = json.loads((tmp_path / "out/scene.json").read_text())
    assert sorted(facts["classes"]) == ["cat", "red bus"] and len(set(facts["looks"])) == 2
    assert (tmp_path / "out/scene/order.txt").read_text().split("\n")[:2] == facts["classes"]
    for place, classes in (
        ("scene", {"cat", "red bus"}),
        ("clean", {"cat", "red bus"}),
        ("untouched", {"dog", "tree"}),
    ):
        for part in ("train", "test"):
            assert {path.name for path in (tmp_path / "out" / place / part).iterdir()} == classes
    for own, look in zip(facts["classes"], facts["looks"], strict=True):
        assert len(list((tmp_path / f"out/scene/train/{own}").iterdir())) == 2
        clean, made = (Image.open(tmp_path / f"out/{place}/test/{own}/0001.png") for place in ("clean", "scene"))
        assert (np.asarray(scene.LOOKS[look](clean)) == np.asarray(made)).all()


@pytest.mark.parametrize("name", looks.LOOKS | looks.OTHERS)
def test_every_look_changes_an_image_and_keeps_its_kind(name):
    look = (looks.LOOKS | looks.OTHERS)[name]
    image = Image.fromarray(np.random.RandomState(1).randint(0, 256, (32, 32, 3), np.uint8))
    made = look(image)
    assert made.size == (32, 32) and made.mode == "RGB" and (np.asarray(made) != np.asarray(image)).any()
    assert (np.asarray(look(image)) == np.asarray(made)).all()


def test_the_search_for_looks_starts_anew_with_each(tiny_imagenet, model, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain, "HELD_OUT", 4)
    monkeypatch.setattr(looks, "HELD_OUT", 4)
    twice = {"noisy": looks.LOOKS["noisy"], "noisy again": looks.LOOKS["noisy"]}
    monkeypatch.setattr(looks, "LOOKS", {"noisy": twice["noisy"]})
    monkeypatch.setattr(looks, "OTHERS", {"noisy again": twice["noisy again"], "inverted": looks.OTHERS["inverted"]})
    given = ["--data", tiny_imagenet, "--names", tiny_imagenet / "names.json", "--model", model[0], "--known", 3]
    given += ["--classes", 2, "--epochs", 2, "--batch_size", 4, "--threads", torch.get_num_threads()]
    call(looks.main, monkeypatch, *given, "--out", tmp_path / "looks.md")
    rows = {
        cells[1].strip(): cells[2:-1]
        for line in (tmp_path / "looks.md").read_text().splitlines()[4:]
        if (cells := line.split("|"))
    }
    assert rows.keys() == {"noisy", "noisy again", "inverted"} and rows["noisy"][1:] == rows["noisy again"][1:]
    assert rows["noisy"][0].strip() == "yes" and not rows["inverted"][0].strip()
    for _, zero_shot, probe, trained, gain in rows.values():
        assert float(gain) == pytest.approx(float(trained) - float(probe), abs=0.11) and 0 <= float(zero_shot) <= 100
    gains = [float(cells[-1]) for cells in rows.values()]
    assert gains == sorted(gains, reverse=True)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--tasks", 7], "--tasks must be from 1 to 6; got 7"),
        (["--tasks", 2, "--classes", 2, "--known", 3], "must be at most --known, 3; got 4"),
        (["--tasks", 1], "must be a new or an empty folder"),
    ],
)
def test_a_scene_that_cannot_be_is_refused(more, message, tmp_path, monkeypatch, capsys):
    (tmp_path / "there").touch()
    given = ["--data", tmp_path, "--names", tmp_path, "--model", tmp_path, "--seed", 1, "--out", tmp_path]
    with pytest.raises(SystemExit):
        call(scene.main, monkeypatch, *given, *more)
    assert message in capsys.readouterr().err
