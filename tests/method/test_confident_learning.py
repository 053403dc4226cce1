"""Confident learning: numbers by hand, and labels that were flipped."""

import numpy as np
import pytest

from segp_ext.method.confident_learning import (
    FEWEST,
    FOLDS,
    Suspect,
    classes_to_test,
    confident_joint,
    held_out_probabilities,
    suspects_of,
)

PROBABILITIES = np.array([
    [0.9, 0.1, 0.0],
    [0.7, 0.2, 0.1],
    [0.2, 0.8, 0.0],  # labelled 0
    [0.1, 0.9, 0.0],
    [0.3, 0.5, 0.2],
    [0.0, 0.2, 0.8],
    [0.55, 0.0, 0.45],  # labelled 2: reaches no threshold
])  # fmt: skip
LABEL = [0, 0, 0, 1, 1, 2, 2]


def test_the_joint_is_that_of_the_paper():
    """Thresholds: (0.9 + 0.7 + 0.2) / 3 = 0.6, (0.9 + 0.5) / 2 = 0.7, (0.8 + 0.45) / 2 = 0.625."""
    counts, likely = confident_joint(PROBABILITIES, LABEL)
    assert likely.tolist() == [0, 0, 1, 1, -1, 2, -1]
    assert counts.tolist() == [[2, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert suspects_of(PROBABILITIES, LABEL) == [Suspect(2, 0, 1, pytest.approx(0.6))]


def test_the_most_probable_of_several_reached_thresholds_counts():
    probabilities = np.array([[0.3, 0.45, 0.25], [0.2, 0.4, 0.4], [0.1, 0.5, 0.4]])
    counts, likely = confident_joint(probabilities, [0, 1, 2])  # thresholds 0.3, 0.4, 0.4
    assert likely.tolist() == [1, 1, 1] and counts[:, 1].tolist() == [1, 1, 1]
    assert [(one.image, one.likely) for one in suspects_of(probabilities, [0, 1, 2])] == [(0, 1), (2, 1)]


def test_an_image_whose_label_is_more_probable_is_no_suspect():
    """Class 0 has a high threshold, class 1 a low one; the third image reaches the low one alone."""
    probabilities = np.array([[0.95, 0.05], [0.95, 0.05], [0.6, 0.4], [0.7, 0.3]])
    counts, likely = confident_joint(probabilities, [0, 0, 0, 1])
    assert likely.tolist() == [0, 0, 1, 1] and counts[0, 1] == 1
    assert suspects_of(probabilities, [0, 0, 0, 1]) == []


def test_suspects_come_in_the_order_of_their_score():
    probabilities = np.array([[0.2, 0.8], [0.05, 0.95], [0.9, 0.1], [0.4, 0.6]])
    found = suspects_of(probabilities, [0, 0, 0, 1])  # thresholds 0.383, 0.6
    assert found == [Suspect(1, 0, 1, pytest.approx(0.9)), Suspect(0, 0, 1, pytest.approx(0.6))]


def clusters(per_class=30, classes=3, seed=0):
    draw = np.random.RandomState(seed)
    centres = 2 * np.eye(classes, 8)
    label = np.repeat(np.arange(classes), per_class)
    return centres[label] + 0.25 * draw.normal(0, 1, (len(label), 8)), label


def test_flipped_labels_are_found():
    features, true = clusters()
    given = true.copy()
    given[[3, 40, 70]] = [1, 2, 0]
    probabilities = held_out_probabilities(features.astype(np.float32), given, np.arange(len(given)))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    found = suspects_of(probabilities, given)
    assert {one.image: one.likely for one in found} == {3: 0, 40: 1, 70: 2}
    assert suspects_of(held_out_probabilities(features, true, np.arange(len(true))), true) == []


def test_a_copy_does_not_vouch_for_a_wrong_label():
    """An image is there six times under a wrong label: in other folds its copies would teach that label."""
    features, true = clusters(per_class=12)
    features, label = np.concatenate([features, features[:1].repeat(6, axis=0)]), np.append(true, [2] * 6)
    alone = np.arange(len(label))
    group = np.append(alone[: len(true)], [0] * 6)
    wrong = [*range(len(true), len(label))]
    together = held_out_probabilities(features, label, group)[wrong, 2].max()
    assert together < 0.5 < held_out_probabilities(features, label, alone)[wrong, 2].max()


def test_classes_with_few_images_cannot_be_tested():
    assert FEWEST >= FOLDS
    label = np.array([0] * 5 + [1] * 4 + [3] * 9)
    group = np.arange(len(label))
    assert classes_to_test(label, group) == [0, 3]
    group[-8:] = group[-8]
    assert classes_to_test(label, group) == [0]
