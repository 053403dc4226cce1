"""The learner on disk: it takes over when it changes, and what is damaged or gone leaves the one that answers."""

from __future__ import annotations

import shutil

import pytest
from made import learnt_glyph
from web_service import picture, until

from segp_ext.method.learner import SeGPCL
from segp_ext.serving.web import learner_watch
from segp_ext.serving.web.learner_watch import LearnerWatch
from segp_ext.storage import sealed


def load(folder):
    return SeGPCL.load(folder, "cpu")


def replace(place, source):
    """Replaces a learner as saving does."""
    sealed.seal(place, {file.name: file.read_bytes() for file in source.iterdir() if file.name != sealed.SUMS})


def test_a_changed_learner_takes_over_and_the_old_one_still_answers(saved, two_learners):
    watch = LearnerWatch(saved, load)
    old = watch.current
    before = old.classifier.predict(picture())
    watch.look()
    assert watch.current is old and watch.swaps == 0
    replace(saved, two_learners[1])
    watch.look()
    assert watch.current is not old and len(watch.current.records) == 6 and watch.swaps == 1 and watch.trouble is None
    assert (
        old.classifier.predict(picture()) == before and len(watch.current.classifier.predict(picture(), None)[0]) == 6
    )


def test_the_thread_looks_by_itself_and_at_once_when_asked(saved, two_learners):
    watch = LearnerWatch(saved, load, every=0.05)
    watch.start()
    replace(saved, two_learners[1])
    until(lambda: watch.swaps == 1)
    watch.stop()
    watch = LearnerWatch(saved, load, every=600)
    watch.start()
    replace(saved, two_learners[0])
    watch.soon()
    until(lambda: watch.swaps == 1)
    watch.stop()


def test_a_damaged_learner_leaves_the_old_one_and_is_told(saved, two_learners, monkeypatch):
    watch = LearnerWatch(saved, load)
    old = watch.current
    replace(saved, two_learners[1])
    whole = (saved / "learner.safetensors").read_bytes()
    (saved / "learner.safetensors").write_bytes(whole[:-1])
    tried = []
    watch.load = lambda folder: tried.append(folder) or load(folder)
    watch.look()
    said = f"cannot load the checkpoint {saved}: {saved / 'learner.safetensors'} is damaged: its SHA-256 is not the recorded one"
    assert watch.current is old and watch.trouble == said
    watch.look()
    assert len(tried) == 1  # nothing has changed, so it is not read again and again
    (saved / "learner.safetensors").write_bytes(whole)
    monkeypatch.setattr(learner_watch, "AGAIN", 0.0)
    watch.look()
    assert len(watch.current.records) == 6 and watch.trouble is None


def test_a_learner_that_vanishes_leaves_the_old_one_and_may_come_back(saved, two_learners):
    watch = LearnerWatch(saved, load)
    old = watch.current
    saved.rename(saved.with_name("away"))
    watch.look()
    assert watch.current is old and watch.trouble.startswith(f"there is no learner at {saved} any more: ")
    saved.with_name("away").rename(saved)
    watch.look()
    assert watch.current is old and watch.trouble is None and watch.swaps == 0


def test_a_learner_that_is_just_being_replaced_is_there(saved):
    """A process that dies while it replaces the folder leaves the old one under a hidden name."""
    saved.rename(saved.with_name(f".{saved.name}.old"))
    watch = LearnerWatch(saved, load)
    watch.look()
    assert len(watch.current.records) == 4 and watch.trouble is None


def test_another_folder_in_its_place_is_no_learner(saved):
    watch = LearnerWatch(saved, load)
    shutil.rmtree(saved)
    saved.mkdir()
    (saved / sealed.SUMS).write_text("")
    watch.look()
    assert watch.current is not None and "no checkpoint at" in watch.trouble


def test_a_learner_without_classes_does_not_answer(tmp_path, saved):
    empty = learnt_glyph()
    empty.forget()
    empty.save(tmp_path / "empty")
    with pytest.raises(ValueError, match="has learnt no class yet"):
        LearnerWatch(tmp_path / "empty", load)
    watch = LearnerWatch(saved, load)
    replace(saved, tmp_path / "empty")
    watch.look()
    assert len(watch.current.records) == 4 and "has learnt no class yet" in watch.trouble
    with pytest.raises(FileNotFoundError, match="no checkpoint at "):
        LearnerWatch(tmp_path / "gone", load)


def test_the_newest_checkpoint_of_a_run_counts(finished, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished, run, symlinks=True)
    tasks = sorted((run / "checkpoints").glob("task-*"))
    newest = tasks[-1]
    aside = newest.rename(tmp_path / "aside")
    watch = LearnerWatch(run, load)
    first = watch.current
    assert first.folder == tasks[-2]
    shutil.copytree(aside, newest)
    watch.look()
    assert watch.current.folder == newest and len(watch.current.records) > len(first.records)
    damaged = newest.with_name("task-099")
    shutil.copytree(newest, damaged)
    (damaged / sealed.SUMS).write_text("x")
    watch.look()
    assert watch.current.folder == newest and "SHA256SUMS is damaged" in watch.trouble


def test_no_verdict_where_the_learner_cannot_give_one(saved, monkeypatch):
    """Without images held back, and where its limits are not known."""
    assert LearnerWatch(saved, load, 0.05).current.unknown_rate is None

    def with_calibration(folder):
        learner = load(folder)
        made = learner.classifier()
        object.__setattr__(made, "calibration", object())
        learner.classifier = lambda: made
        return learner

    rates = []

    def answer(self, pixels, path=None, others=(), unknown_rate=None):
        rates.append(unknown_rate)
        if unknown_rate == 0.5:
            raise ValueError("no limit")

    monkeypatch.setattr("segp_ext.method.classifier.Classifier.answer", answer)
    assert LearnerWatch(saved, with_calibration, 0.05).current.unknown_rate == 0.05
    assert LearnerWatch(saved, with_calibration, 0.5).current.unknown_rate is None
    assert LearnerWatch(saved, with_calibration, None).current.unknown_rate is None and rates == [0.05, 0.5, None, None]
