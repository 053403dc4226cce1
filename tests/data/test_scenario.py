"""The cut into tasks: order, limits, validation images, and the hash of the split."""

import dataclasses
import itertools

import numpy as np
import pytest
from trees import make, scenario

from segp_ext.config import DataConfig
from segp_ext.data import load_collection
from segp_ext.data.scenario import draw_shots, make_scenario


def test_order_tasks_and_limits(tmp_path):
    names = ["a", "b", "c", "d", "e"]
    make(tmp_path, {f"{part}/{n}": 3 for part in ("train", "test") for n in names})
    found = scenario(tmp_path, order=7, max_images_per_class=2)
    order = np.random.RandomState(7).permutation(5)
    assert found.class_names == [names[c] for c in order]
    assert [len(task.train) for task in found.tasks] == [4, 4, 2]
    assert found.split_hash != scenario(tmp_path, order=8, max_images_per_class=2).split_hash


@pytest.mark.parametrize(
    ("tasks", "sizes"),
    [(None, [2, 2, 2, 1]), ([3, 2, 2], [3, 2, 2]), ([4], [4, 2, 1]), ([1, 3], [1, 3, 2, 1]), ([7], [7])],
)
def test_tasks_of_several_sizes(tmp_path, tasks, sizes):
    make(tmp_path, dict.fromkeys("abcdefg", 3))
    found = scenario(tmp_path, classes_per_task=2, tasks=tasks, order=3)
    assert [len(task.class_names) for task in found.tasks] == sizes
    assert found.class_names == scenario(tmp_path, classes_per_task=7, order=3).class_names


def test_tasks_that_cannot_be(tmp_path):
    make(tmp_path, dict.fromkeys("abc", 3))
    with pytest.raises(ValueError, match=r"data.tasks \[2, 2\] asks for 4 classes, but the data set has 3"):
        scenario(tmp_path, tasks=[2, 2])
    for tasks in ([], [2, 0]):
        with pytest.raises(ValueError, match="data.tasks must be sizes of one task or more, 1 or above; got"):
            DataConfig(tasks=tasks)


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


# -- published validation images -----------------------------------------------------------------------------------------------


def test_a_published_validation_part_is_neither_learnt_nor_tested_on_unless_it_is_asked_for(tmp_path):
    make(tmp_path, {f"{part}/{name}": 4 for part in ("train", "test", "held") for name in ("cat", "dog")})
    collection = load_collection(DataConfig(name="folder", root=str(tmp_path)))
    held = [sorted((tmp_path / "held" / name).iterdir()) for name in ("cat", "dog")]
    assert list(collection.parts()) == ["train", "test"]
    collection = dataclasses.replace(collection, validation=held)
    assert collection.parts()["validation"] is held
    test, validation = (
        make_scenario(collection, DataConfig(evaluate_on=part, validation_fraction=0.5, order=None))
        for part in ("test", "validation")
    )
    assert test.tasks[0].train.sources == validation.tasks[0].train.sources == collection.train[0] + collection.train[1]
    assert test.tasks[0].test.sources == collection.test[0] + collection.test[1]
    assert validation.tasks[0].test.sources == held[0] + held[1]
    assert test.split_hash != validation.split_hash
    collection.validation = [held[0], []]
    assert make_scenario(collection, DataConfig(order=None)).split_hash == test.split_hash
    with pytest.raises(ValueError, match="class 'dog' of .* has no validation image; every class needs at least one"):
        make_scenario(collection, DataConfig(evaluate_on="validation", order=None))


# -- shots ---------------------------------------------------------------------------------------------------------------------


def sources(found):
    """The training images by class."""
    return {
        name: [source for source, label in zip(task.train.sources, task.train.labels, strict=True) if label == number]
        for task in found.tasks
        for number, name in enumerate(task.class_names)
    }


def test_shots_are_of_the_training_images_alone_and_the_same_in_every_class_order(tmp_path):
    make(tmp_path, {f"{part}/{name}": 9 for part in ("train", "test") for name in ("cat", "dog", "eel")})
    whole, few = scenario(tmp_path), scenario(tmp_path, shots=4)
    assert [len(task.train) for task in few.tasks] == [8, 4] and [len(task.test) for task in few.tasks] == [18, 9]
    drawn = sources(few)
    assert all({*drawn[name]} < {*images} for name, images in sources(whole).items())
    assert sources(scenario(tmp_path, shots=4, order=5)) == drawn
    (tmp_path / "classes.txt").write_text("eel\ncat\n")
    of_two = sources(scenario(tmp_path, shots=4, class_list="classes.txt"))
    assert of_two == {name: drawn[name] for name in ("eel", "cat")}
    other = scenario(tmp_path, shots=4, shots_seed=2)
    assert sources(other) != drawn and len({found.split_hash for found in (whole, few, other)}) == 3


def test_fewer_shots_are_part_of_more_and_keep_their_order():
    draws = [draw_shots(list(range(20)), shots, seed=3) for shots in (1, 5, 16, 20)]
    assert all({*few} < {*more} for few, more in itertools.pairwise(draws))
    assert all(drawn == sorted(drawn) for drawn in draws) and draws[-1] == list(range(20))


def test_shots_are_drawn_after_validation_images_are_taken_out(tmp_path):
    make(tmp_path, {"train/cat": 8, "test/cat": 3})
    kept, held = scenario(tmp_path, evaluate_on="validation"), scenario(tmp_path, evaluate_on="validation", shots=6)
    assert held.split_hash == kept.split_hash
    with pytest.raises(
        ValueError, match=r"data.shots is 7, but class 'cat' of .* has 6 training image\(s\) to draw from"
    ):
        scenario(tmp_path, evaluate_on="validation", shots=7)
    assert len(scenario(tmp_path, shots=7).tasks[0].train) == 7


def test_a_limit_for_small_trials_holds_for_both_parts(tmp_path):
    make(tmp_path, {"train/cat": 8, "test/cat": 3})
    task = scenario(tmp_path, shots=4, max_images_per_class=2).tasks[0]
    assert task.train.sources == scenario(tmp_path, shots=4).tasks[0].train.sources[:2] and len(task.test) == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"shots": 0}, "data.shots must be greater than 0; got 0"),
        ({"shots": 4, "shots_seed": -1}, r"data.shots_seed must be from 0 to 2\*\*32 - 1; got -1"),
    ],
)
def test_shots_that_cannot_be(given, message):
    with pytest.raises(ValueError, match=message):
        DataConfig(**given)
