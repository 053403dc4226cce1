"""The images that exports are compared on, and how close scores must be."""

import pytest
import torch
from made import made_images, tiny_backbone

from segp_ext.config import MethodConfig
from segp_ext.method.learner import SeGPCL
from segp_ext.serving.agreement import IMAGES, chosen_images, compare, drawn_images, prepared_pixels

SCORES = torch.tensor([[2.0, 1.0, 0.0], [0.0, 300.0, 299.0]])


def changed(row, column, by):
    scores = SCORES.clone()
    scores[row, column] += by
    return scores


def test_equal_scores_agree_and_the_largest_differences_are_told():
    found = compare(SCORES, changed(1, 0, 0.015), "it")
    assert found.images == 2 and found.probability < 1e-9 and found.score == pytest.approx(0.015 / 300)
    found = compare(SCORES, changed(0, 1, 0.00005), "it")
    assert found.score == pytest.approx(0.000025, rel=1e-2) and 0 < found.probability < 0.00005


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        (changed(0, 2, 0.0003), "scores differ by 1.5e-04"),
        (changed(1, 2, 0.02), "probabilities by 3.9e-03"),
        (changed(0, 2, float("nan")), "scores differ by nan"),
        (changed(0, 2, 3.0), "1 images get another class"),
    ],
)
def test_scores_that_differ_are_refused(scores, said):
    with pytest.raises(
        ValueError, match=rf"^the onnx export does not predict as the learner on 2 images.*{said}.*nothing was written"
    ):
        compare(SCORES, scores, "the onnx export")


def test_another_best_class_is_refused_however_close_the_scores_are():
    with pytest.raises(ValueError, match="1 images get another class"):
        compare(torch.tensor([[1.0, 1.00001]]), torch.tensor([[1.00001, 1.0]]), "it")


def test_probabilities_are_those_of_the_temperature():
    """At temperature 0.01, p(1 - p) = 0.197 times 0.00002 / 0.01; else a quarter of 0.00002."""
    one, other = torch.tensor([[1.0, 0.99]]), torch.tensor([[1.0, 0.99002]])
    assert compare(one, other, "it").probability == pytest.approx(5e-6, rel=1e-2)
    with pytest.raises(ValueError, match="probabilities by 3.9e-04"):
        compare(one, other, "it", 0.01)


def test_scores_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"it must give scores \[2, 3\]; got \[1, 3\]"):
        compare(SCORES, SCORES[:1], "it")


@pytest.fixture
def classifier():
    return SeGPCL(tiny_backbone(), MethodConfig(method="zero-shot", min_images_per_class=1)).classifier()


def test_drawn_images_are_always_the_same_and_all_differ(classifier):
    first, again = drawn_images(8), chosen_images(classifier, None)
    assert [image.tobytes() for image in first] == [image.tobytes() for image in again]
    assert len({image.tobytes() for image in first}) == IMAGES and {image.size for image in first} == {(12, 10)}
    pixels = prepared_pixels(classifier, first)
    assert pixels.shape == (IMAGES, 3, 8, 8) and pixels.min() >= 0 and 0.9 < pixels.max() <= 1
    assert torch.equal(pixels, classifier.backbone.to_unit((pixels * 255).round().byte()))


def test_given_images_are_taken_evenly(classifier):
    images = [image for image, _ in made_images(16, 10)]
    assert len(chosen_images(classifier, images[:3])) == 3
    found = chosen_images(classifier, images)
    assert len(found) == IMAGES
    for place, image in ((0, found[0]), (159, found[-1])):
        assert image.tobytes() == images[place].transpose(1, 2, 0).tobytes()
    with pytest.raises(ValueError, match="images must hold at least one image"):
        chosen_images(classifier, [])
    with pytest.raises(ValueError, match="cannot read gone.png"):
        chosen_images(classifier, ["gone.png"])
