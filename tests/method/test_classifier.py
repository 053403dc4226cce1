"""What a classifier takes, names and refuses."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from made import encoded, images_of, made_images, small_config, tiny_backbone
from method.learners import learnt
from PIL import Image

from segp_ext.method.calibration import Calibration, PathCalibration
from segp_ext.method.learner import SeGPCL


def test_dual_path_is_text_plus_beta_visual():
    learner, _ = learnt(inference__beta=0.7)
    embedding, feature = encoded(learner, images_of(made_images(3, 4), learner.backbone))
    text, visual, dual = (learner.scores(embedding, feature, path) for path in ("text", "visual", "dual"))
    torch.testing.assert_close(dual, text + 0.7 * visual)
    assert torch.equal(learner.classifier().dual(text, visual), dual)  # evaluation adds them so
    expected = learner.backbone.logit_scale * F.normalize(feature, dim=-1) @ F.normalize(learner.prototypes, dim=-1).T
    torch.testing.assert_close(visual, expected)


def test_predict_takes_images_in_every_form(tmp_path):
    learner, _ = learnt(method="lora", training__epochs=30, training__classes="seen")
    data = made_images(2, 3, seed=3)
    array = data[0][0]
    pil = Image.fromarray(array.transpose(1, 2, 0), "RGB")
    pil.save(tmp_path / "image.png")
    forms = [array, torch.from_numpy(array), pil, tmp_path / "image.png", str(tmp_path / "image.png")]
    results = [learner.predict(form, topk=2) for form in forms] + [learner.predict([pil], topk=2)]
    for result in results:
        assert len(result) == 1 and len(result[0]) == 2
        assert result[0][0].name == results[0][0][0].name == "cat"
        assert result[0][0].score == pytest.approx(results[0][0][0].score, abs=1e-5)
        assert 1 >= result[0][0].score >= result[0][1].score >= 0
    batch = torch.stack([torch.from_numpy(data[i][0]) for i in range(6)])
    assert [r[0].name for r in learner.predict(batch)] == ["cat"] * 3 + ["dog"] * 3
    assert len(learner.predict(pil, topk=50)[0]) == len(learner.predict(pil, topk=None)[0]) == 5
    assert learner.predict(array.transpose(1, 2, 0)) == learner.predict(array / 255) == learner.predict(pil)
    assert learner.predict((tmp_path / "image.png").read_bytes()) == learner.predict(array)
    assert learner.predict([]) == []
    assert learner.predict(pil, topk=np.int64(2)) == learner.predict(pil, topk=2)
    assert learner.predict(np.array([str(tmp_path / "image.png")] * 2)) == learner.predict([pil] * 2)
    unit = learner.backbone.to_unit(batch)
    torch.testing.assert_close(learner.logits(unit.double()), learner.logits(unit))


def test_predict_names_an_image_whose_scores_are_not_finite(monkeypatch):
    learner, _ = learnt()
    encode = learner.backbone.encode_image

    def broken(pixels):
        embedding, feature = encode(pixels)
        return embedding.index_fill(0, torch.tensor([2]), torch.inf), feature

    monkeypatch.setattr(learner.backbone, "encode_image", broken)
    images = [image for image, _ in made_images(2, 2)]
    with pytest.raises(FloatingPointError, match="the scores of image 2 are not finite"):
        learner.predict(images)
    assert len(learner.predict(images, path="visual")) == 4


def test_predict_refuses_what_it_cannot_use():
    learner, _ = learnt(training__epochs=0)
    image = made_images(1, 2)[0][0]
    with pytest.raises(ValueError, match="topk must be 1 or more, or None for all; got 0"):
        learner.predict(image, topk=0)
    with pytest.raises(ValueError, match="path must be one of text, visual, dual; got 'both'"):
        learner.predict(image, path="both")
    with pytest.raises(ValueError, match="image 0 must have floating-point pixels.*Drop the normalisation"):
        learner.predict(torch.full((3, 8, 8), -1.0))
    with pytest.raises(
        ValueError, match="^image 1: cannot read the given data as an image: cannot identify image file$"
    ):
        learner.predict([image, b"xx"])
    with pytest.raises(ValueError, match=r"image 1 must be \[C, H, W\] or \[H, W, C\].*; got \[8, 3, 8\]"):
        learner.predict([image, image.transpose(1, 0, 2)])
    array = np.zeros((1, 3, 8, 8))
    for wrong, got in (
        (torch.zeros(1, 3, 9, 8), r"torch.float32 \[1, 3, 9, 8\]"),
        (array, r"float64 \[1, 3, 8, 8\]"),
        (3, "int"),
    ):
        with pytest.raises(
            ValueError, match=rf"pixels must be a floating-point tensor \[B, 3, 8, 8\] in \[0, 1\].*got {got}. predict"
        ):
            learner.logits(wrong)
    for wrong, got in ((5, "int"), (None, "NoneType"), ({"a": image}, "dict")):
        with pytest.raises(TypeError, match=f"images must be an image, its path, or a list of these; got {got}"):
            learner.predict(wrong)
    with pytest.raises(
        TypeError, match="image 0 must be a dense tensor of plain numbers; got torch.float32, torch.sparse_coo"
    ):
        learner.predict([torch.zeros(3, 8, 8).to_sparse()])
    with pytest.raises(ValueError, match="cannot read .*gone.png"):
        learner.predict("gone.png")
    with pytest.raises(ValueError, match="at least one learnt task"):
        SeGPCL(tiny_backbone(), small_config()).predict(image)
    learner.prototypes = learner.prototypes[:3]
    with pytest.raises(ValueError, match=r"prototypes must be \[5, 24\], a row for each class learnt; got \[3, 24\]"):
        learner.predict(image)


def test_an_image_too_narrow_to_be_resized_is_named(monkeypatch):
    learner, _ = learnt()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4000)  # PIL refuses twice as many
    assert len(learner.predict([Image.new("RGB", (1, 125))])) == 1
    with pytest.raises(
        ValueError, match=r"image 1: 1 × 126 pixels are too narrow: resized they would be 8 × 1,008; crop it"
    ):
        learner.predict([Image.new("RGB", (8, 8)), Image.new("RGB", (1, 126))])


def test_a_set_of_images_is_refused():
    learner, _ = learnt()
    with pytest.raises(TypeError, match="images must have an order, which answers follow; got a set. Pass a list"):
        learner.predict({"a.png", "b.png"})


OTHERS = ["zebra", "old lion"]


def pixels_for(learner, count=4):
    return learner.backbone.to_unit(torch.stack([torch.from_numpy(image) for image, _ in made_images(2, count // 2)]))


@pytest.mark.parametrize("path", ["text", "visual", "dual"])
def test_names_never_learnt_compete_by_text_and_leave_the_rest_to_the_learnt_classes(path):
    classifier = learnt(inference__path=path)[0].classifier()
    pixels = pixels_for(classifier)
    found = classifier.probabilities(pixels, others=OTHERS).float()
    embedding, _ = classifier.backbone.encode_image(pixels)
    prompts = [f"a photo of {name}." for name in (*classifier.class_names, *OTHERS)]
    text = classifier.backbone.encode_text(classifier.backbone.tokenize(prompts)).detach()
    logits = classifier.backbone.logit_scale * F.normalize(embedding, dim=-1) @ F.normalize(text, dim=-1).T
    expected = logits.softmax(dim=1)
    torch.testing.assert_close(found[:, 5:], expected[:, 5:])
    shared = classifier.logits(pixels).softmax(dim=1)
    torch.testing.assert_close(found[:, :5], shared * expected[:, :5].sum(dim=1, keepdim=True))
    if path == "text":
        torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(4))
    assert (found[:, :5].argsort(dim=1) == shared.argsort(dim=1)).all()
    torch.testing.assert_close(classifier.probabilities(pixels).float(), shared)


def test_a_high_temperature_leaves_classes_in_the_order_of_their_scores():
    """Divided by such a temperature, all scores have one probability in float32."""
    classifier = learnt()[0].classifier()
    path = classifier.config.inference.path
    classifier = dataclasses.replace(classifier, calibration=Calibration(4, {path: PathCalibration(temperature=1e9)}))
    pixels = pixels_for(classifier)
    found = classifier.probabilities(pixels)
    assert (found.argsort(dim=1) == classifier.logits(pixels).argsort(dim=1)).all()
    assert len({*found.float().flatten().tolist()}) == 1  # so this shows something


def test_predict_names_what_was_never_learnt():
    learner, _ = learnt()
    images = [image for image, _ in made_images(2, 2)]
    alone, with_others = learner.predict(images, topk=None), learner.predict(images, topk=None, others=OTHERS)
    for few, all_names in zip(alone, with_others, strict=True):
        assert {prediction.name for prediction in all_names} == {*learner.class_names, *OTHERS}
        assert sum(prediction.score for prediction in all_names) == pytest.approx(1)
        assert [p.name for p in all_names if p.name not in OTHERS] == [p.name for p in few]
    assert learner.predict(images, others=[]) == learner.predict(images, others=()) == learner.predict(images)
    assert learner.predict(images, others=np.array(OTHERS)) == learner.predict(images, others=OTHERS)


def test_a_name_that_fits_the_image_better_wins(monkeypatch):
    """The other name's text embedding is made to be the image's own."""
    learner, _ = learnt()
    classifier = learner.classifier()
    embedding, _ = classifier.backbone.encode_image(pixels_for(classifier))
    for others, better in ((("zebra",), embedding[:1]), (("lion",), -embedding[:1])):
        monkeypatch.setattr("segp_ext.method.classifier.encode_classes", lambda *given, text=better: text)
        first = classifier.predict(made_images(1, 2)[0][0], topk=1, others=others)[0][0]
        assert (first.name == "zebra") == (others == ("zebra",))


def test_the_text_of_names_never_learnt_is_encoded_once_and_follows_the_template(monkeypatch):
    learner, _ = learnt()
    classifier, encoded = learner.classifier(), []
    encode = classifier.backbone.encode_text
    monkeypatch.setattr(classifier.backbone, "encode_text", lambda tokens: encoded.append(tokens) or encode(tokens))
    image = made_images(1, 2)[0][0]
    first = classifier.predict(image, topk=None, others=OTHERS)
    assert classifier.predict(image, topk=None, others=OTHERS) == first and len(encoded) == 1
    classifier.predict(image, others=OTHERS[:1])
    assert len(encoded) == 2
    changed = dataclasses.replace(classifier.config, template="one {}")
    dataclasses.replace(classifier, config=changed).predict(image, others=OTHERS[:1])
    assert len(encoded) == 3 and not torch.equal(encoded[1], encoded[2])


def test_names_that_cannot_compete_are_refused():
    learner, _ = learnt(training__epochs=0)
    image = made_images(1, 2)[0][0]
    for others, message in (
        (["lion", "cat"], "others: class name 'cat' is learnt already"),
        (["lion", "lion"], "others: class name 'lion' is given twice"),
        (["lion", " "], "others: class names must be strings that are not empty; got ' '"),
        (["CAT"], "others: class names 'cat' and 'CAT' read the same to the text encoder"),
        (["a b c d e f g h i"], "others: prompt does not fit the 10 tokens"),
    ):
        with pytest.raises(ValueError, match=message):
            learner.predict(image, others=others)
    for others, got in (("zebra", r"the string 'zebra': write \['zebra'\]"), ({"zebra"}, "a set"), (3, "an? int")):
        with pytest.raises(TypeError, match=f"others must be a list of names; got {got}"):
            learner.predict(image, others=others)
