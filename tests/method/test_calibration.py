"""What the images held back tell: temperatures, errors of probabilities, quantiles and the limit for unknown images."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

from segp_ext.method import calibration
from segp_ext.method.calibration import (
    Calibration,
    calibrate,
    calibration_error,
    calibration_gaps,
    calibration_of,
    chosen_share,
    mixed_scores,
    quantiles_of,
)
from segp_ext.method.held_back import HeldBack


def drawn_scores(count=200, classes=5, scale=3.0, seed=0):
    """Scores of images whose class is right more often than not, and the classes."""
    draw = torch.Generator().manual_seed(seed)
    label = torch.randint(classes, (count,), generator=draw)
    scores = scale * torch.randn(count, classes, generator=draw, dtype=torch.float64)
    return scores.scatter_add(1, label[:, None], torch.full((count, 1), 1.5 * scale, dtype=torch.float64)), label


def test_the_temperature_by_hand():
    """Two images with scores (a, 0), both right: the loss is least where sigmoid(a/T) is the share 1 − 0.5/3 that counts as right."""
    scores, label = torch.tensor([[2.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 1])
    found = calibrate({"text": scores}, label, torch.zeros(2)).paths["text"]
    assert found.temperature == pytest.approx(2 / math.log(5), rel=1e-3)  # sigmoid(log 5) = 5/6
    assert found.accuracy == 1
    assert found.error_before == pytest.approx(1 - 1 / (1 + math.exp(-2)))
    assert found.error_after == pytest.approx(1 / 6, abs=1e-4)


@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0, 3000.0])
def test_no_temperature_of_a_grid_is_better_and_the_loss_is_convex_in_its_inverse(scale):
    scores, label = drawn_scores(scale=scale)
    found = calibrate({"text": scores}, label, torch.zeros(len(label))).paths["text"].temperature
    best = calibration._loss(scores, label, found)
    grid = np.geomspace(found / 50, found * 50, 400)
    losses = [calibration._loss(scores, label, temperature) for temperature in grid]
    assert best <= min(losses) + 1e-9 and max(losses) > best + 0.1
    inverse = np.linspace(0.02 / found, 20 / found, 300)
    bends = np.diff([calibration._loss(scores, label, 1 / value) for value in inverse], 2)
    assert (bends > -1e-9 * max(losses)).all() and bends.max() > 0


def test_scaled_and_shifted_scores_give_the_same_probabilities():
    scores, label = drawn_scores()
    plain, changed = (
        calibrate({"text": s}, label, torch.zeros(len(label))).paths["text"] for s in (scores, 7 * scores + 100)
    )
    assert changed.temperature == pytest.approx(7 * plain.temperature, rel=1e-3)
    assert changed.error_after == pytest.approx(plain.error_after, abs=1e-3)


def test_scores_that_are_always_right_ask_for_no_temperature_near_nought():
    scores, label = drawn_scores(count=50, scale=1.0)
    scores = scores.scatter(1, label[:, None], 100.0)
    found = calibrate({"text": scores}, label, torch.zeros(50)).paths["text"]
    sure = (scores / found.temperature).softmax(dim=1).amax(dim=1).mean()
    assert found.accuracy == 1 and float(sure) == pytest.approx(1 - 0.5 / 51, abs=0.01)


def test_the_calibration_error_by_hand():
    """Bins 9 (0.53 to 0.6) and 14 (0.87 to 0.93): gaps of |0.55 + 0.58 − 1| and |0.9 + 0.9 − 2|, over four images."""
    best = torch.tensor([0.55, 0.58, 0.9, 0.9], dtype=torch.float64)
    probabilities, label = torch.stack([best, 1 - best], dim=1), torch.tensor([0, 1, 0, 0])
    assert calibration_error(probabilities, label) == pytest.approx((0.13 + 0.2) / 4)
    gaps = sum(calibration_gaps(probabilities[part], label[part]) for part in ([0, 2], [1, 3]))
    assert float(gaps.abs().sum() / 4) == pytest.approx((0.13 + 0.2) / 4)
    assert calibration_error(torch.tensor([[1.0, 0.0]]), torch.tensor([0])) == 0


def test_auto_weighs_both_models_by_their_likelihood():
    good, label = drawn_scores(scale=5.0)
    noise = torch.randn(200, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    poor = noise.scatter_add(1, label[:, None], torch.full((200, 1), 0.7, dtype=torch.float64))
    for dual, frozen, low, high in ((good, poor, 0.5, 1.0), (poor, good, 0.0, 0.5), (good, good, 0.5, 0.5)):
        found = calibrate({"dual": dual, "frozen": frozen}, label, torch.zeros(200))
        assert low <= found.trained_share <= high
        better = max(found.paths[path].accuracy for path in ("dual", "frozen"))
        assert found.paths["auto"].accuracy >= better - 0.01
        parts = dual / found.temperature("dual"), frozen / found.temperature("frozen")
        expected = found.trained_share * parts[0] + (1 - found.trained_share) * parts[1]
        torch.testing.assert_close(mixed_scores(dual, frozen, found), expected)


def test_auto_takes_the_share_nearest_to_a_half_that_the_images_allow():
    """Losses of four images: at 0 the mean loss is 1 above the least one, by 1 for each image, so surely; at 0.5 by 0.1 ± 0.2."""
    certain, least = torch.full((4,), 2.0), torch.ones(4)
    doubtful = least + torch.tensor([0.5, -0.3, 0.4, -0.2])
    assert chosen_share({0.0: certain, 0.5: doubtful, 1.0: least}) == 0.5
    assert chosen_share({0.0: certain, 0.5: certain, 1.0: least}) == 1.0
    assert chosen_share({0.0: least, 0.5: certain, 1.0: certain}) == 0.0


def test_quantiles_by_hand():
    """Three values stand for the levels 1/4, 1/2, 3/4; level 0.3 lies a fifth of the way from the first to the second."""
    found = quantiles_of(torch.tensor([30.0, 10.0, 20.0]))
    assert len(found) == 201 and found[0] == found[50] == 10 and found[100] == 20 and found[150] == found[200] == 30
    assert found[60] == pytest.approx(12)
    known = Calibration(3, fit=found)
    assert known.limit(0.3) == pytest.approx(12) and known.limit(0.3012) == pytest.approx(12.048)
    assert known.limit(0.1) == 10 and known.limit(0.999) == 30
    assert quantiles_of(torch.tensor([5.0])) == (5.0,) * 201


def test_the_stated_share_of_further_images_lies_below_the_limit():
    draw = torch.Generator().manual_seed(0)
    below = []
    for _ in range(300):
        held, new = torch.randn(60, generator=draw), torch.randn(500, generator=draw)
        below.append(float((new < Calibration(60, fit=quantiles_of(held)).limit(0.05)).double().mean()))
    assert np.mean(below) == pytest.approx(0.05, abs=0.005)


def test_the_unknown_share_is_the_share_of_images_that_fit_better():
    known = Calibration(999, fit=quantiles_of(torch.arange(1, 1000).double()))
    share = known.unknown_share(torch.tensor([-5.0, 50.5, 500.5, 2000.0])).tolist()
    assert share == pytest.approx([1, 0.95, 0.5, 0], abs=0.01) and share[0] == 1 and share[3] == 0


@pytest.mark.parametrize("rate", [0, 1, -0.1, 1.5, math.nan, "0.05"])
def test_a_rate_out_of_range_is_refused(rate):
    with pytest.raises(ValueError, match=r"^unknown must be the share of images .*, above 0 and below 1; got") as error:
        Calibration(3, fit=quantiles_of(torch.arange(3.0))).limit(rate)
    assert str(error.value).endswith(repr(rate)) and "\n" not in str(error.value)


def test_without_images_there_is_no_limit():
    nothing = calibrate({"text": torch.zeros(0, 2)}, torch.zeros(0, dtype=torch.int64), torch.zeros(0))
    assert nothing == Calibration(0) and nothing.temperature("text") == 1
    with pytest.raises(
        ValueError, match="^this learner knows no limit for unknown images.*calibration.fraction above 0$"
    ):
        nothing.limit(0.05)


def test_a_calibration_is_read_back_and_a_damaged_one_is_refused():
    scores, label = drawn_scores()
    made = calibrate({"text": scores, "dual": scores, "frozen": scores}, label, scores[:, 0])
    plain = json.loads(json.dumps(dataclasses.asdict(made)))
    assert calibration_of(plain) == made and calibration_of(None) is None
    for wrong in ([1.0, 2.0], plain["fit"][::-1], [math.nan] * 201, "no", ["1"] * 201):
        with pytest.raises(ValueError, match="measured.fit must be 201 numbers in rising order, or none; got"):
            calibration_of(plain | {"fit": wrong})
    with pytest.raises(ValueError, match="measured must be an object of images, paths, trained_share, fit"):
        calibration_of({name: value for name, value in plain.items() if name != "fit"})


def test_images_held_back_move_along_with_their_classes():
    before, after = torch.eye(3)[:2], torch.tensor([[0.6, 0.8, 0.0], [0.0, 1.0, 0.0]])
    held = HeldBack(torch.tensor([0, 1]), torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.0, 3.0]]), torch.zeros(0, 3))
    for unit, expected in ((True, [1.2, 1.6, 0.0]), (False, [1.6, 0.8, 0.0])):
        found = held.moved(before, after, unit).feature
        torch.testing.assert_close(found, torch.tensor([expected, [0.0, 0.0, 3.0]]))
