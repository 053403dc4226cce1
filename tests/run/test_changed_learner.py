"""A saved learner that is changed: in its place or beside it, whole, and by one process at a time."""

import shutil

import pytest
from made import learnt_glyph

from segp_ext.method.learner import SeGPCL
from segp_ext.run.changed_learner import change_learner
from segp_ext.storage.learner_lock import held_alone
from segp_ext.storage.sealed import identity


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("learner") / "saved"
    learnt_glyph().save(folder)
    return folder


@pytest.fixture
def saved(made, tmp_path):
    shutil.copytree(made, tmp_path / "saved")
    return tmp_path / "saved"


def crimson(learner):
    learner.rename_class("0", "crimson")


def test_a_learner_is_replaced_or_saved_elsewhere(saved):
    before = identity(saved)
    learner, place = change_learner(saved, crimson, saved.parent / "deep/copy")
    assert learner.class_names[0] == "crimson" and place == saved.parent / "deep/copy"
    assert identity(saved) == before and SeGPCL.load(place).class_names == learner.class_names
    (saved / "notes.txt").write_text("mine")
    assert change_learner(saved, crimson)[1] == saved
    assert SeGPCL.load(saved).class_names[0] == "crimson" and (saved / "notes.txt").read_text() == "mine"
    assert sorted(entry.name for entry in saved.parent.iterdir()) == ["deep", "saved"]


def test_weights_in_the_folder_go_along(tmp_path):
    learnt_glyph().save(tmp_path / "saved", with_weights=True)
    change_learner(tmp_path / "saved", crimson, tmp_path / "copy")
    assert (tmp_path / "copy/backbone.safetensors").is_file()


def test_a_change_that_fails_leaves_the_folder_alone(saved):
    before = identity(saved)
    with pytest.raises(ValueError, match="no class 'x' has been learnt"):
        change_learner(saved, lambda learner: learner.remove_classes(["x"]))
    with held_alone(saved), pytest.raises(FileExistsError, match="another process changes"):
        change_learner(saved, crimson)
    (saved.parent / "photos").mkdir()
    (saved.parent / "photos/a.txt").write_text("x")
    with pytest.raises(FileExistsError, match="photos exists and is not a checkpoint"):
        change_learner(saved, crimson, saved.parent / "photos")
    assert identity(saved) == before


def test_a_runs_checkpoints_stay_and_are_copied(finished, tmp_path):
    last = max((finished / "checkpoints").glob("task-*"))
    first, before = SeGPCL.load(last).class_names[0], identity(last)

    def change(learner):
        learner.rename_class(first, "crimson")

    for place in (finished, last, finished / "checkpoints/latest"):
        with pytest.raises(ValueError, match="belongs to a run.*save a copy with --out FOLDER"):
            change_learner(place, change)
    with pytest.raises(ValueError, match="belongs to a run"):
        change_learner(finished, change, last)
    change_learner(finished, change, tmp_path / "copy")
    assert SeGPCL.load(tmp_path / "copy").class_names[0] == "crimson" and identity(last) == before
