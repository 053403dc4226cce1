"""The built-in digits: the split that everybody uses, and a validation part that never touches the test images."""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from segp_ext.config import DataConfig
from segp_ext.data import load_scenario


def indices(scenario, part):
    return sorted(i for task in scenario.tasks for i in getattr(task, part).sources)


def test_split_and_pixels():
    scans = load_digits()
    train, test = train_test_split(np.arange(1797), test_size=0.3, stratify=scans.target, random_state=0)
    found = load_scenario(DataConfig(classes_per_task=2, order=3))
    assert indices(found, "train") == sorted(train.tolist()) and indices(found, "test") == sorted(test.tolist())
    order = np.random.RandomState(3).permutation(10)
    assert found.class_names == [str(c) for c in order] and len(found.tasks) == 5
    image, label = found.tasks[2].train[0]
    source = found.tasks[2].train.sources[0]
    assert scans.target[source] == int(found.tasks[2].class_names[label])
    assert image.shape == (3, 8, 8) and image.dtype == np.uint8
    np.testing.assert_array_equal(image[1], np.round(scans.images[source] * 255 / 16))


def test_validation_never_sees_a_test_image():
    final, choosing = (load_scenario(DataConfig(evaluate_on=part)) for part in ("test", "validation"))
    seen = set(indices(choosing, "train")) | set(indices(choosing, "test"))
    assert seen == set(indices(final, "train")) and seen.isdisjoint(indices(final, "test"))
