"""Confident learning: finds images whose labels are likely wrong (Northcutt, Jiang, Chuang, JAIR 2021, arXiv 1911.00068)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

FOLDS = 5
"""Folds of the cross-validation."""
FEWEST = 5
"""Images, no two of one group, that a class needs, so that every fold leaves it some to learn from."""


@dataclass(frozen=True)
class Suspect:
    """An image whose label is likely wrong.

    Attributes:
        image: Its place.
        given: The class that it is labelled as.
        likely: The class that it likely is.
        score: Probability of the likely class minus that of the given one, above 0; near 1 the label is almost surely wrong.
    """

    image: int
    given: int
    likely: int
    score: float


def held_out_probabilities(
    features: np.ndarray, label: np.ndarray, group: np.ndarray, classifier: Any = None
) -> np.ndarray:
    """Computes each image's probabilities by a classifier that has not seen it, in `FOLDS`-fold cross-validation.

    Features are scaled to length 1, then each dimension to variance 1.

    Args:
        features: Features of the images, float `[N, D]`, any norm.
        label: Class of each image, int64 `[N]`, from 0 to C − 1; each class one of `classes_to_test`.
        group: Group of each image, int64 `[N]`. Images of one group, such as copies, are never on both sides of a fold.
        classifier: Classifier of scikit-learn with `predict_proba`; linear discriminant analysis with shrinkage by default, which
            `evidence/suspects.py` compares with others.

    Returns:
        Probabilities, float64 `[N, C]`.
    """
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer, StandardScaler

    chosen = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto") if classifier is None else classifier
    model = make_pipeline(Normalizer(), StandardScaler(), chosen)
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    return cross_val_predict(model, features, label, groups=group, cv=folds, method="predict_proba")


def classes_to_test(label: np.ndarray, group: np.ndarray) -> list[int]:
    """Lists the classes whose labels can be tested: those with images of `FEWEST` groups at least.

    Args:
        label: Class of each image, int64 `[N]`.
        group: Group of each image, int64 `[N]`.
    """
    pairs = np.unique(np.stack([label, group], axis=1), axis=0)
    classes, groups = np.unique(pairs[:, 0], return_counts=True)
    return classes[groups >= FEWEST].tolist()


def confident_joint(probabilities: np.ndarray, label: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Counts labels against likely classes (equations 1 and 2 of the paper).

    The threshold of a class is the mean of its probability over the images labelled so. An image counts for the most probable of the
    classes whose threshold its probability reaches, and nowhere if it reaches none.

    Args:
        probabilities: Probabilities by a classifier that has not seen the image, `[N, C]`.
        label: Class that each image is labelled as `[N]`; every class has an image.

    Returns:
        The counts `[C, C]`, given by likely class, and the likely class of each image int64 `[N]`, −1 for an image that counts nowhere.
    """
    label = np.asarray(label)
    count = probabilities.shape[1]
    own = probabilities[np.arange(len(label)), label]
    thresholds = np.bincount(label, own, count) / np.bincount(label, minlength=count)
    reached = np.where(probabilities >= thresholds, probabilities, -1.0)
    likely = np.where(reached.max(axis=1) >= 0, reached.argmax(axis=1), -1)
    counts = np.zeros((count, count), dtype=np.int64)
    np.add.at(counts, (label[likely >= 0], likely[likely >= 0]), 1)
    return counts, likely


def suspects_of(probabilities: np.ndarray, label: Sequence[int] | np.ndarray) -> list[Suspect]:
    """Lists the images off the diagonal of the confident joint, the likeliest errors first.

    Left out are images whose given class is more probable than the likely one.

    Args:
        probabilities: As for `confident_joint`.
        label: As for `confident_joint`.
    """
    label = np.asarray(label)
    _, likely = confident_joint(probabilities, label)
    found = []
    for image in np.flatnonzero((likely >= 0) & (likely != label)).tolist():
        given, other = int(label[image]), int(likely[image])
        margin = float(probabilities[image, other] - probabilities[image, given])
        if margin > 0:
            found.append(Suspect(image, given, other, margin))
    return sorted(found, key=lambda one: (-one.score, one.image))
