"""Learners as exports: what each format holds, that it predicts alike without this package, and what is refused with nothing written."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import open_clip
import pytest
import torch
from made import learnt_glyph, made_images, small_config, tiny_backbone
from PIL import Image
from safetensors.torch import load_file

from segp_ext import export_learner, load_config
from segp_ext.clip.pretrained import load_clip
from segp_ext.config import MethodConfig
from segp_ext.method.heads import Head
from segp_ext.method.learner import SeGPCL
from segp_ext.serving import exporting
from segp_ext.serving.agreement import IMAGES
from segp_ext.storage import sealed

HEADS = {
    "cosine": {},
    "gaussians-unit": {"prototypes__score": "mahalanobis"},
    "gaussians-raw": {"prototypes__score": "mahalanobis", "prototypes__features": "raw"},
    "gaussians-own": {"prototypes__score": "mahalanobis", "prototypes__own_covariance": 0.5},
    "ridge": {"prototypes__score": "ridge", "training__epochs": 0},
    "probe": {"prototypes__score": "probe", "training__epochs": 0, "training__joint": True},
}
"""Every head, by the settings that make it."""
QUICK = ("gaussians-own", "ridge")


@pytest.fixture(scope="module")
def learner():
    """A trained learner of two tasks of two classes; no test changes it."""
    return learnt_glyph()


def headed(changes, **options):
    """A learner on the built-in model with a head of one's choice."""
    learner = SeGPCL(load_clip("glyph", **options), small_config(**changes))
    learner.learn_task(made_images(3, 12), ["0", "1", "seven"])
    return learner


def probabilities(learner, images, path):
    """What `predict` answers, as a tensor with a column per class."""
    found = [dict(answer) for answer in learner.predict(images, None, path)]
    return torch.tensor([[answer[name] for name in learner.class_names] for answer in found])


def test_merged_weights_predict_in_open_clip_alone_as_the_learner(learner, tmp_path):
    done = export_learner(learner, tmp_path / "out", "open_clip")
    assert (done.folder, done.path, done.agreement.images) == (tmp_path / "out", "text", IMAGES)
    images = [Image.fromarray(np.random.RandomState(n).randint(0, 255, (20, 31, 3), np.uint8)) for n in range(5)]
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{done.folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{done.folder}")
    classes = json.loads((done.folder / "classes.json").read_text())["classes"]
    assert classes[2] == {"name": "2", "prompts": ["a photo of a 2."], "task": 2}
    with torch.no_grad():
        text = model.encode_text(tokenizer([entry["prompts"][0] for entry in classes]), normalize=True)
        found = model.encode_image(torch.stack([preprocess(image) for image in images]), normalize=True)
        found = (model.logit_scale.exp() * found @ text.T).softmax(dim=1)
    torch.testing.assert_close(found, probabilities(learner, images, "text"), rtol=0, atol=1e-5)
    assert torch.equal(load_file(done.folder / "prototypes.safetensors")["prototypes"], learner.prototypes)


@pytest.mark.parametrize(
    "head", [head if head in QUICK else pytest.param(head, marks=pytest.mark.slow) for head in HEADS]
)
def test_every_head_becomes_a_program(head, tmp_path):
    learner = headed(HEADS[head])
    done = export_learner(learner, tmp_path / "out", "torch", path="visual")
    assert done.agreement.score < 1e-6 and done.path == "visual"


def test_a_program_needs_torch_alone(learner, tmp_path):
    export_learner(learner, tmp_path / "out", "torch")
    pixels = torch.rand(7, 3, 16, 16)
    torch.save(pixels, tmp_path / "pixels.pt")
    code = """
import sys, torch
extra = {"class_names": "", "preprocessing": "", "scores": ""}
program = torch.export.load("out/model.pt2", extra_files=extra)
torch.save([program.module()(torch.load("pixels.pt")[:count]) for count in (1, 7)], "scores.pt")
assert not any(name.startswith(("segp_ext", "open_clip")) for name in sys.modules)
print(extra["scores"], extra["class_names"], extra["preprocessing"])
"""
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith(
        'dual ["0", "1", "2", "3"] {"steps": "resize the short side to 16 pixels (bicubic), then cut out'
    )
    one, seven = torch.load(tmp_path / "scores.pt")
    torch.testing.assert_close(seven, learner.logits(pixels), rtol=0, atol=1e-5)
    torch.testing.assert_close(one, learner.logits(pixels[:1]), rtol=0, atol=1e-5)
    assert (tmp_path / "out/model.pt2").stat().st_size < 6e6  # without the text tower


@pytest.mark.parametrize(
    "options",
    [
        {"precision": "bf16"},
        pytest.param({"precision": "fp64"}, marks=pytest.mark.slow),
        pytest.param({"compile": True}, marks=pytest.mark.slow),
        {"resize_mode": "squash"},
    ],
)
def test_exports_compute_in_float32_eagerly_whatever_the_learner_does(options, tmp_path):
    """A learner of half precision is compared in float32, as its own predictions are coarser than the tolerance."""
    learner = headed({"training__epochs": 0}, **options)
    before = learner.predict(made_images(2, 1)[0][0])
    for format in ("open_clip", "torch"):
        done = export_learner(learner, tmp_path / format, format)
        assert done.agreement.probability < 1e-5
    about = json.loads((tmp_path / "torch/segp_export.json").read_text())
    assert about["preprocessing"]["resize_mode"] == options.get("resize_mode", "shortest")
    assert learner.predict(made_images(2, 1)[0][0]) == before and learner.backbone.precision == options.get(
        "precision", "fp32"
    )


def test_the_facts_name_the_checkpoint_and_what_the_input_must_be(learner, tmp_path):
    learner.save(tmp_path / "saved")
    export_learner(learner, tmp_path / "out", "torch", path="text", checkpoint=tmp_path / "saved")
    about = json.loads((tmp_path / "out/segp_export.json").read_text())
    assert about["learner_sha256"] == sealed.identity(tmp_path / "saved")
    assert (about["kind"], about["scores"], about["head"], about["model"]["name"]) == ("torch", "text", None, "glyph")
    assert about["preprocessing"]["steps"].endswith("then cut out the middle 16 × 16, take RGB, divide by 255")
    assert about["versions"].keys() >= {"segp_ext", "torch", "open_clip_torch"}
    assert sealed.check_seal(tmp_path / "out").keys() == {"classes.json", "segp_export.json", "model.pt2"}


def test_an_export_replaces_an_export_and_nothing_else(learner, tmp_path, monkeypatch):
    export_learner(learner, tmp_path / "out", "torch")
    (tmp_path / "out/notes.txt").write_text("mine")
    export_learner(learner, tmp_path / "out", "open_clip")
    assert not (tmp_path / "out/model.pt2").exists() and (tmp_path / "out/notes.txt").read_text() == "mine"
    learner.save(tmp_path / "saved")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/classes.json").write_text("{}")
    (tmp_path / "file").write_text("x")
    for taken in ("saved", "photos", "file"):
        with pytest.raises(FileExistsError, match=f"{taken} exists and is not an export; choose another place"):
            export_learner(learner, tmp_path / taken, "torch")
    monkeypatch.chdir(tmp_path / "out")
    with pytest.raises(FileExistsError, match="is the folder that this process works in"):
        export_learner(learner, ".", "torch")


class Sticky(Head):
    """A head of one's own that no program can hold: it looks at numbers."""

    def scores(self, feature, prototypes, logit_scale):
        return super().scores(feature, prototypes, logit_scale) * (2.0 if feature.sum().item() > 0 else 1.0)


class Shifty(Head):
    """A head of one's own whose program differs from it: every call scores otherwise."""

    calls = 0

    def scores(self, feature, prototypes, logit_scale):
        Shifty.calls += 1
        return super().scores(feature, prototypes, logit_scale) + Shifty.calls * feature[:, :1]


class Doubled(Head):
    """A head of one's own of tensor operations alone."""

    def scores(self, feature, prototypes, logit_scale):
        return 2 * super().scores(feature, prototypes, logit_scale)


def own(name):
    return headed({"training__epochs": 0, "prototypes__score": f"test_exporting:{name}"})


def test_a_head_of_ones_own_is_exported_if_it_is_tensor_operations(tmp_path):
    assert export_learner(own("Doubled"), tmp_path / "out", "torch").agreement.score < 1e-6
    sticky = own("Sticky")
    with pytest.raises(ValueError) as refused:
        export_learner(sticky, tmp_path / "sticky", "torch")
    assert str(refused.value).startswith(
        "the dual scores by the head test_exporting:Sticky, whose scores must be plain operations on tensors, on glyph cannot be exported: "
    )
    assert export_learner(sticky, tmp_path / "sticky", "torch", path="text").path == "text"


def test_an_export_that_predicts_otherwise_is_not_written(tmp_path):
    with pytest.raises(
        ValueError, match="the torch export does not predict as the learner on 100 images.*nothing was written"
    ):
        export_learner(own("Shifty"), tmp_path / "out", "torch")
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_open_clip_does_not_load_is_not_written(learner, tmp_path, monkeypatch):
    export_learner(learner, tmp_path / "out", "torch")
    before = (tmp_path / "out/SHA256SUMS").read_bytes()

    def fails(*_, **__):
        raise RuntimeError("no such layer\nin line 1")

    monkeypatch.setattr(open_clip, "create_model_and_transforms", fails)
    with pytest.raises(ValueError, match="^open_clip does not load the export: no such layer; nothing was written$"):
        export_learner(learner, tmp_path / "out", "open_clip")
    assert (tmp_path / "out/SHA256SUMS").read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["out"]


def test_images_of_ones_own_are_compared_on(learner, tmp_path):
    images = [image for image, _ in made_images(2, 3)]
    assert export_learner(learner, tmp_path / "out", "torch", images=images).agreement.images == 6
    assert export_learner(learner, tmp_path / "out", "torch", images=images[:1]).agreement.images == 1


@pytest.mark.parametrize(
    ("given", "kind", "said"),
    [
        ({"format": "tflite"}, ValueError, "format must be one of open_clip, .*; got 'tflite'"),
        ({"format": "open_clip", "path": "dual"}, ValueError, "text path alone; for path dual take one of .*torch"),
        ({"format": "torch", "path": "sound"}, ValueError, "path must be one of text, visual, dual; got 'sound'"),
        ({"format": "torch", "images": []}, ValueError, "images must hold at least one image"),
    ],
)
def test_what_does_not_fit_is_refused(given, kind, said, learner, tmp_path):
    with pytest.raises(kind, match=said):
        export_learner(learner, tmp_path / "out", **given)
    assert list(tmp_path.iterdir()) == []


def test_learners_that_cannot_be_exported_are_refused(tmp_path):
    with pytest.raises(ValueError, match="has learnt no class yet"):
        export_learner(SeGPCL(load_clip("glyph"), MethodConfig()), tmp_path / "out", "torch")
    with pytest.raises(TypeError, match="learner must be a segp_ext.SeGPCL; got str"):
        export_learner("saved", tmp_path / "out", "torch")
    tiny = SeGPCL(tiny_backbone(), small_config())
    tiny.learn_task(made_images(2, 4), ["red", "blue"])
    with pytest.raises(ValueError, match="format open_clip: tiny with a WordTokenizer is no model of open_clip's"):
        export_learner(tiny, tmp_path / "out", "open_clip")
    assert list(tmp_path.iterdir()) == []


def test_a_format_without_its_extra_says_how_to_install_it(monkeypatch):
    needy = exporting.Format(print, print, needs=("json", "no_such_package"))
    monkeypatch.setattr(exporting, "FORMATS", {"onnx": needy})
    with pytest.raises(
        ModuleNotFoundError, match=r"format onnx needs no_such_package, .*pip install 'segp_ext\[onnx\]'"
    ):
        exporting.check_format("onnx")


@pytest.mark.parametrize("path", ["frozen", "auto"])
def test_a_learner_of_two_models_is_exported_with_its_temperature(path, tmp_path):
    """The program holds both models where both count. Tasks of classes are those of their records, also after a removal."""
    config = load_config("digits", changes={"method": "auto", "training.epochs": 1, "anchors.steps": 1})
    learner = SeGPCL(load_clip("glyph"), config)
    for number, names in enumerate((["1", "2"], ["3", "4"])):
        images = made_images(2, 12, seed=5 * number)
        learner.learn_task(images, names)
    learner.calibration = dataclasses.replace(learner.calibration, trained_share=0.5)
    learner._classifier = None
    learner.remove_classes(["1"])
    done = export_learner(learner, tmp_path / "out", "torch", path=path)
    assert done.path == path and done.agreement.score < 1e-5
    about = json.loads((tmp_path / "out/segp_export.json").read_text())
    assert about["temperature"] == learner.classifier().temperature(path)
    classes = json.loads((tmp_path / "out/classes.json").read_text())["classes"]
    assert [(entry["name"], entry["task"]) for entry in classes] == [("2", 1), ("3", 2), ("4", 2)]
