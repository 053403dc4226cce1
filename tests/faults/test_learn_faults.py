"""A learner that learns a folder is usable whenever the process dies, and learning goes on to the same numbers."""

import json
import re
import shutil

import pytest
from months import month
from victims import Victims

from segp_ext import SeGPCL

pytestmark = pytest.mark.slow
FILES = ("learner.safetensors", "adapter_model.safetensors", "learner.json")


def contents(place):
    """Reads everything of a saved learner but dates."""
    found = {name: (place / name).read_bytes() for name in FILES}
    found["learner.json"] = re.sub(rb'"learnt": "[^"]*"', b"", found["learner.json"])
    return found


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """A learner of two digits, two more digits to learn, and what an uninterrupted process makes of them."""
    folder = tmp_path_factory.mktemp("learn") / "runs"
    folder.mkdir()
    first, second = (
        month(folder.parent / name, classes) for name, classes in (("first", ["1", "2"]), ("second", ["3", "4"]))
    )
    victims = Victims(folder)
    given = [
        "--training.epochs=1",
        "--training.batch_size=4",
        "--anchors.seeds_per_class=2",
        "--anchors.steps=1",
        "--loading.workers=0",
    ]
    made = victims.run([str(folder / "before"), str(first), *given], command="new")
    assert made.status == 0, made.output
    shutil.copytree(folder / "before", folder / "whole")
    whole = victims.run([str(folder / "whole"), str(second)], command="learn")
    assert whole.status == 0, whole.output
    yield victims, second, whole
    victims.close()


def test_killed_at_every_write_the_learner_is_usable_and_goes_on(story):
    victims, second, whole = story
    folder = victims.folder
    old, new = contents(folder / "before"), contents(folder / "whole")
    points = [re.sub(r"(\.?)whole", r"\1cut", name, count=1) for name in whole.passed]
    assert len(points) > 20 and any(".cut.learning" in point for point in points)
    ends = set()
    for point in points:
        shutil.rmtree(folder / "cut", ignore_errors=True)
        for left in folder.glob(".cut*"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        shutil.copytree(folder / "before", folder / "cut")
        killed = victims.run([str(folder / "cut"), str(second)], command="learn", point=(point, 1))
        assert killed.status == -9, (point, killed.output)
        learner = SeGPCL.load(folder / "cut", "cpu")
        ends.add(len(learner.class_names))
        assert len(learner.predict(next(second.glob("*/*.png")), topk=1)[0]) == 1, point
        if len(learner.class_names) == 2:
            again = victims.run([str(folder / "cut"), str(second)], command="learn")
            assert again.status == 0, (point, again.output)
        assert contents(folder / "cut") == new != old, point
    assert ends == {2, 4}


def test_learning_goes_on_where_it_stopped(story):
    victims, second, whole = story
    folder = victims.folder
    shutil.rmtree(folder / "late", ignore_errors=True)
    shutil.copytree(folder / "before", folder / "late")
    saving = next(name for name in whole.passed if name.startswith("open .whole.new"))
    killed = victims.run(
        [str(folder / "late"), str(second)], command="learn", point=(saving.replace(".whole", ".late"), 1)
    )
    assert killed.status == -9 and killed.steps == whole.steps
    again = victims.run([str(folder / "late"), str(second)], command="learn")
    assert again.status == 0 and again.steps == []  # the last position was kept
    assert json.loads((folder / "late/learner.json").read_text())["task_sizes"] == [2, 2]
    assert not [*folder.glob(".late*")]
