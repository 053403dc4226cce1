"""The cut into tasks: order, limits, validation images, and the hash of the split."""

import numpy as np
import pytest
from trees import make, scenario


def test_order_tasks_and_limits(tmp_path):
    names = ["a", "b", "c", "d", "e"]
    make(tmp_path, {f"{part}/{n}": 3 for part in ("train", "test") for n in names})
    found = scenario(tmp_path, order=7, max_images_per_class=2)
    order = np.random.RandomState(7).permutation(5)
    assert found.class_names == [names[c] for c in order]
    assert [len(task.train) for task in found.tasks] == [4, 4, 2]
    assert found.split_hash != scenario(tmp_path, order=8, max_images_per_class=2).split_hash


def test_a_named_order_of_another_number_of_classes(tmp_path):
    make(tmp_path, dict.fromkeys("abcdef", 2))
    with pytest.raises(
        ValueError, match="data.order 'imagenet-r-rapf' is an order of 200 classes, but the data set has 6"
    ):
        scenario(tmp_path, order="imagenet-r-rapf")


def test_validation_comes_out_of_the_training_images(tmp_path):
    make(tmp_path, {"train/cat": 8, "test/cat": 3})
    test, validation = scenario(tmp_path), scenario(tmp_path, evaluate_on="validation")
    kept, held = validation.tasks[0].train.sources, validation.tasks[0].test.sources
    assert len(kept) == 6 and len(held) == 2
    assert sorted(kept + held) == test.tasks[0].train.sources
    assert test.split_hash != validation.split_hash


def test_the_split_hash_notices_a_changed_file(tmp_path):
    make(tmp_path / "a", {"train/cat": 2, "test/cat": 2})
    make(tmp_path / "b", {"train/cat": 2, "test/cat": 2})
    first = scenario(tmp_path / "a")
    assert first.split_hash == scenario(tmp_path / "b").split_hash
    with (tmp_path / "b/test/cat/00.jpg").open("ab") as file:
        file.write(b"\0")
    assert first.split_hash != scenario(tmp_path / "b").split_hash
