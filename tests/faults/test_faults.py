"""Runs that are killed anywhere are resumed to the same numbers. `python tests/faults/campaign.py` tries all faults on the built-in run."""

import random

import pytest
from runs import Trial
from victims import Victims

pytestmark = pytest.mark.slow
SMALL = ["--training.epochs=2", "--anchors.steps=1", "--data.max_images_per_class=20", "--data.classes_per_task=4"]


@pytest.fixture(scope="module")
def trial(tmp_path_factory):
    victims = Victims(tmp_path_factory.mktemp("faults"))
    yield Trial(victims, SMALL, every=3)
    victims.close()


def test_killed_at_any_instant(trial):
    draw = random.Random(0)
    for _ in range(4):
        trial.survives(after=draw.uniform(0.02, 0.98) * trial.whole.seconds)


# One write point of each kind; the campaign takes all of them.
@pytest.mark.parametrize(
    ("point", "which"),
    [
        ("open cut/run.lock", 1),
        ("rename cut/config.yaml", 1),
        ("rename cut/result.json", 3),
        ("rename cut/report.html", 4),
        ("open cut/checkpoints/.task-N.new/learner.safetensors", 3),
        ("rename cut/checkpoints/task-N", 1),
        ("rename cut/checkpoints/task-N", 3),
        ("rename cut/checkpoints/latest", 2),
        ("rename cut/checkpoints/.task-N.gone", 1),
        ("rename cut/checkpoints/learning-N/anchors", 2),
        ("open cut/checkpoints/learning-N/.step-N.new/training.safetensors", 4),
        ("rename cut/checkpoints/learning-N/step-N", 5),
        ("rename cut/checkpoints/.learning-N.gone", 2),
        ("open cut/plots/drift.png", 1),
    ],
)
def test_killed_at_a_write(trial, point, which):
    assert point in trial.points()
    trial.survives(point=(point, which))


@pytest.mark.parametrize(
    ("point", "which"),
    [
        ("open cut/checkpoints/.task-N.new/learner.safetensors", 3),
        ("open cut/checkpoints/learning-N/.step-N.new/training.safetensors", 4),
        ("open cut/.result.json.N", 4),
        ("open cut/plots/drift.png", 1),
    ],
)
def test_a_full_disk_is_named_and_gone_on_after(trial, point, which):
    assert point in trial.points()
    trial.survives(point=(point, which), full=True)


def flip(pattern):
    """Returns a function that flips one bit in the newest of a run's files that match `pattern`."""

    def damage(run):
        path = sorted(run.glob(pattern))[-1]
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 4
        path.write_bytes(content)

    return damage


@pytest.mark.parametrize(
    "pattern",
    [
        "checkpoints/task-*/learner.safetensors",
        "checkpoints/task-*/run.json",
        "checkpoints/learning-*/step-*/training.safetensors",
        "checkpoints/learning-*/anchors/anchors.safetensors",
    ],
)
def test_a_damaged_checkpoint_is_left_out(trial, pattern):
    trial.survives(point=("rename cut/checkpoints/learning-N/step-N", 6), damage=flip(pattern))


def test_without_a_whole_checkpoint_a_run_is_refused(trial):
    def all_of_them(run):
        for path in run.glob("checkpoints/task-*/learner.json"):
            path.write_bytes(path.read_bytes()[:-1])

    with pytest.raises(AssertionError, match="no checkpoint of .* is whole; start anew, under another --run.name"):
        trial.survives(point=("rename cut/checkpoints/learning-N/step-N", 6), damage=all_of_them)
