"""A learner's answers on a folder: numbers against the learner's own predictions."""

import numpy as np
import pytest
import torch
from made import made_images, small_config, tiny_backbone
from method.learners import learnt
from PIL import Image

from segp_ext.data.labelled_folder import read_labelled_folder
from segp_ext.method.calibration import Calibration, PathCalibration
from segp_ext.method.learner import SeGPCL
from segp_ext.run import folder_evaluation
from segp_ext.run.folder_evaluation import Asked, evaluate_folder

CLASSES = ["red", "green", "blue", "cat", "dog"]


@pytest.fixture
def photos(tmp_path):
    """Four images of each learnt class but dog, and three of a zebra; one image of a cat is broken."""
    for place, name in enumerate([*CLASSES[:4], "zebra"]):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number, (image, _) in enumerate(made_images(1, 4 - (name == "zebra"), seed=place)):
            Image.fromarray(image.transpose(1, 2, 0)).save(tmp_path / f"photos/{name}/{number}.png")
    (tmp_path / "photos/cat/3.png").write_bytes(b"broken")
    return read_labelled_folder(tmp_path / "photos", all_parts=False)


@pytest.mark.parametrize("size", [1, 4, 100])
def test_numbers_are_those_of_the_learner_s_predictions(photos, size):
    learner, _ = learnt()
    found = evaluate_folder(learner.classifier(), photos, Asked("saved", "dual", size, 0))
    known = [
        file for file in photos.files if ("zebra" not in str(file) and file.name != "3.png") or "cat" not in str(file)
    ]
    known = [file for file in known if "zebra" not in str(file)]
    best = [named[0] for named in learner.predict(known, 1, "dual")]
    true = [file.parent.name for file in known]
    right = [one.name == name for one, name in zip(best, true, strict=True)]
    assert (found.learner, found.folder, found.path, found.images) == ("saved", "photos", "dual", 15)
    assert found.accuracy == pytest.approx(np.mean(right)) and found.class_names == CLASSES
    by_class = {
        name: np.mean([hit for hit, own in zip(right, true, strict=True) if own == name]) for name in CLASSES[:4]
    }
    assert found.class_accuracy[:4] == pytest.approx([*by_class.values()]) and found.class_accuracy[4] is None
    assert found.mean_class_accuracy == pytest.approx(np.mean([*by_class.values()]))
    named = {(CLASSES.index(name), CLASSES.index(one.name)) for name, one in zip(true, best, strict=True)}
    assert {(row, column) for row, column, _ in found.confusion} == named
    wrong = sorted((-one.score, str(file)) for one, hit, file in zip(best, right, known, strict=True) if not hit)
    assert [one.probability for one in found.mistakes] == pytest.approx([-score for score, _ in wrong])
    assert all(one.true == one.file.split("/")[0] and one.own < one.probability for one in found.mistakes)
    (broken,) = found.unread
    assert broken.file == "cat/3.png" and broken.error.startswith("cannot read ")
    sure = [prediction.score for prediction in best]
    mean = sum(one.images * one.confidence for one in found.calibration.after) / found.images
    assert mean == pytest.approx(np.mean(sure), abs=1e-5)
    unknown = found.unknown
    assert unknown is not None and unknown.images == 3 and [one.name for one in unknown.classes] == ["zebra"]
    fits = fit(learner, known)
    pairs = [
        (a > b) + 0.5 * (a == b) for a in fits for b in fit(learner, [f for f in photos.files if "zebra" in str(f)])
    ]
    assert unknown.area_under_curve == pytest.approx(np.mean(pairs), abs=0.04)


def fit(learner, files):
    """How well image files fit the learnt classes."""
    classifier = learner.classifier()
    pixels = torch.stack([classifier.backbone.transform(Image.open(file).convert("RGB")) for file in files])
    features = classifier.features(classifier.backbone.to_unit(pixels), "dual", on_frozen=True)
    return classifier.unknown_scores(features).tolist()


def test_the_temperature_changes_the_error_and_no_name(photos):
    learner, _ = learnt()
    cold = evaluate_folder(learner.classifier(), photos, Asked("saved", "text"))
    assert cold.calibration.temperature == 1 and cold.calibration.before == cold.calibration.after
    learner.calibration = Calibration(9, {"text": PathCalibration(temperature=20.0)})
    learner._classifier = None
    warm = evaluate_folder(learner.classifier(), photos, Asked("saved", "text"))
    assert warm.confusion == cold.confusion and warm.calibration.before == cold.calibration.before
    assert warm.calibration.temperature == 20 and warm.calibration.error_before == cold.calibration.error_after
    sure = max(one.confidence for one in warm.calibration.after)
    assert sure < max(one.confidence for one in cold.calibration.after)


def test_only_the_surest_mistakes_are_kept(photos, monkeypatch):
    learner, _ = learnt(training__epochs=0)
    everything = evaluate_folder(learner.classifier(), photos, Asked("saved")).mistakes
    assert len(everything) > 2
    monkeypatch.setattr(folder_evaluation, "MISTAKES", 2)
    kept = evaluate_folder(learner.classifier(), photos, Asked("saved", batch_size=3)).mistakes
    assert [one.file for one in kept] == [one.file for one in everything[:2]]


def test_scores_that_are_not_finite_count_as_unread(photos, monkeypatch):
    learner, _ = learnt(training__epochs=0)
    classifier = learner.classifier()
    encode = classifier.backbone.encode_image

    def broken(pixels):
        embedding, feature = encode(pixels)
        return embedding.index_fill(0, torch.tensor([2]), torch.nan), feature

    monkeypatch.setattr(classifier.backbone, "encode_image", broken)
    found = evaluate_folder(classifier, photos, Asked("saved", "text", batch_size=100))
    assert (
        found.images == 14
        and found.unread[0].error == "its scores are not finite; with model.precision fp16, bf16 or fp32 may help"
    )


def test_what_cannot_be_measured_is_refused(photos, tmp_path):
    with pytest.raises(ValueError, match="the learner has learnt no class yet"):
        evaluate_folder(SeGPCL(tiny_backbone(), small_config()).classifier(), photos, Asked("saved"))
    learner, _ = learnt(training__epochs=0)
    with pytest.raises(ValueError, match="path must be one of text, visual, dual; got 'auto'"):
        evaluate_folder(learner.classifier(), photos, Asked("saved", "auto"))
    for file in photos.files:
        file.write_bytes(b"")
    with pytest.raises(ValueError, match="no image of a learnt class in .* could be read; the first: cannot read "):
        evaluate_folder(learner.classifier(), photos, Asked("saved"))
