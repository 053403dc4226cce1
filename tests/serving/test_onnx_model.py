"""ONNX models of learners: every head, any number of images, metadata, and what is refused. Skipped without the extra onnx."""

import json
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from made import learnt_glyph, made_images
from PIL import Image
from test_exporting import HEADS, headed, probabilities

from segp_ext import export, export_learner
from segp_ext.method.heads import Head
from segp_ext.serving import onnx_model

LACKS = [package for package in onnx_model.PACKAGES if find_spec(package) is None]
pytestmark = pytest.mark.skipif(bool(LACKS), reason=f"not installed: {', '.join(LACKS)} (pip install 'segp_ext[onnx]')")
QUICK = ("gaussians-own",)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A trained learner with its ONNX model of the dual path; no test changes them."""
    learner, folder = learnt_glyph(), tmp_path_factory.mktemp("onnx")
    learner.save(folder / "saved")
    return learner, export_learner(learner, folder / "out", "onnx", checkpoint=folder / "saved")


def test_a_model_scores_any_number_of_images_as_the_learner(exported):
    import onnxruntime

    learner, done = exported
    assert done.path == "dual" and done.agreement.images == 100 and done.agreement.probability < 1e-5
    session = onnxruntime.InferenceSession(done.folder / "model.onnx", providers=["CPUExecutionProvider"])
    (given,), (gives,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.shape, gives.name, gives.shape) == ("image", ["batch", 3, 16, 16], "scores", ["batch", 4])
    images = [Image.fromarray(np.random.RandomState(n).randint(0, 255, (40, 25, 3), np.uint8)) for n in range(7)]
    pixels = np.stack([learner.backbone.transform(image).numpy() for image in images]).astype(np.float32) / 255
    expected = probabilities(learner, images, "dual")
    for count in (1, 2, 7):
        scores = torch.from_numpy(session.run(None, {"image": pixels[:count]})[0])
        torch.testing.assert_close(scores.softmax(dim=1), expected[:count], rtol=0, atol=1e-5)


def test_the_metadata_tell_classes_preprocessing_and_the_learner(exported):
    import onnx

    learner, done = exported
    model = onnx.load(done.folder / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    about = {entry.key: entry.value for entry in model.metadata_props}
    facts = json.loads((done.folder / "segp_export.json").read_text())
    assert json.loads(about["class_names"]) == [*learner.class_names] and about["scores"] == "dual"
    assert json.loads(about["preprocessing"]) == facts["preprocessing"]
    assert about["learner_sha256"] == facts["learner_sha256"] and len(about["learner_sha256"]) == 64
    assert json.loads(about["versions"]).keys() >= {"torch", "onnx", "onnxscript", "onnxruntime"}


def test_a_model_needs_onnx_runtime_alone(exported, tmp_path):
    _, done = exported
    code = """
import sys, numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
print(session.run(["scores"], {"image": numpy.zeros((3, 3, 16, 16), numpy.float32)})[0].shape)
assert not {"torch", "segp_ext"} & {*sys.modules}
"""
    ran = subprocess.run(
        [sys.executable, "-c", code, done.folder / "model.onnx"], cwd=tmp_path, capture_output=True, text=True
    )
    assert (ran.returncode, ran.stdout) == (0, "(3, 4)\n"), ran.stderr


@pytest.mark.parametrize(
    "head", [head if head in QUICK else pytest.param(head, marks=pytest.mark.slow) for head in HEADS]
)
def test_every_head_becomes_a_model(head, tmp_path):
    learner = headed(HEADS[head])
    done = export_learner(learner, tmp_path / "out", "onnx", path="dual")
    assert done.agreement.score < 1e-5 and done.agreement.probability < 5e-5


class Rolled(Head):
    """A head of one's own of tensor operations of which ONNX lacks one."""

    def scores(self, feature, prototypes, logit_scale):
        return super().scores(feature, prototypes, logit_scale) + torch.linalg.eigvalsh(feature.T @ feature).sum()


def test_operations_that_onnx_lacks_are_named_with_the_head(tmp_path):
    learner = headed({"training__epochs": 0, "prototypes__score": "test_onnx_model:Rolled"})
    with pytest.raises(
        ValueError, match="the visual scores by the head test_onnx_model:Rolled, .* cannot be exported: "
    ):
        export_learner(learner, tmp_path / "out", "onnx", path="visual")
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_onnx_runtime_does_not_load_or_that_scores_otherwise_is_not_written(tmp_path, monkeypatch):
    learner = headed({"training__epochs": 0})
    learner.save(tmp_path / "saved")
    write = onnx_model.onnx_files

    def halved(subject, metadata):
        return {name: content[: len(content) // 2] for name, content in write(subject, metadata).items()}

    def other(subject, metadata):
        subject.plain.statistics.prototypes = -subject.plain.prototypes
        return write(subject, metadata)

    from segp_ext.serving import exporting

    for wrong, said in (
        (halved, "ONNX Runtime does not load the export: "),
        (other, "does not predict as the learner"),
    ):
        changed = exporting.Format(wrong, onnx_model.onnx_scores, needs=onnx_model.PACKAGES)
        monkeypatch.setattr(exporting, "FORMATS", {"onnx": changed})
        with pytest.raises(ValueError, match=f"{said}.*nothing was written"):
            export_learner(learner, tmp_path / "out", "onnx")
        assert [path.name for path in tmp_path.iterdir()] == ["saved"]


def test_the_command_writes_a_model(exported, tmp_path, capsys):
    learner, _ = exported
    learner.save(tmp_path / "saved")
    Image.fromarray(made_images(1, 1)[0][0].transpose(1, 2, 0)).save(tmp_path / "a.png")
    out = tmp_path / "out"
    status = export.main(
        [str(tmp_path / "saved"), "--format=onnx", "--path=text", f"--out={out}", "--images", str(tmp_path)]
    )
    assert status == 0 and capsys.readouterr().out.startswith(
        f"{out}: text scores of 4 classes\ncompared with the learner on 1 "
    )
