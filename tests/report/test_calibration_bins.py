"""Bins of probabilities, and the expected calibration error."""

import numpy as np
import pytest
import torch

from segp_ext.method.calibration import calibration_error
from segp_ext.report.calibration_bins import BINS, CalibrationBin, calibration_bins, expected_error


def test_numbers_by_hand():
    bins = calibration_bins([1.0, 0.95, 0.5, 0.0], [True, False, True, False])
    assert len(bins) == BINS and sum(one.images for one in bins) == 4
    assert bins[-1] == CalibrationBin(2, pytest.approx(0.975), 0.5)
    assert bins[7] == CalibrationBin(1, 0.5, 1.0) and bins[0] == CalibrationBin(1, 0.0, 0.0)
    assert expected_error(bins) == pytest.approx((2 * 0.475 + 0.5) / 4)
    assert expected_error(calibration_bins([], [])) == 0


def test_the_error_is_that_of_the_learner_s_calibration():
    draw = np.random.RandomState(0)
    probabilities = torch.from_numpy(draw.dirichlet([0.3] * 5, 400))
    label = torch.from_numpy(draw.randint(0, 5, 400))
    best, named = probabilities.max(dim=1)
    bins = calibration_bins(best.tolist(), (named == label).tolist())
    assert expected_error(bins) == pytest.approx(calibration_error(probabilities, label), abs=1e-12)
