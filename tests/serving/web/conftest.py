"""Learners that are served in tests."""

from __future__ import annotations

import shutil

import pytest
from made import learnt_glyph, made_images


@pytest.fixture(scope="session")
def two_learners(tmp_path_factory):
    """Folders of a saved learner, and of the same learner with two classes more; no test changes them."""
    folder = tmp_path_factory.mktemp("learners")
    learner = learnt_glyph()
    learner.save(folder / "first")
    learner.learn_task(made_images(2, 4, seed=5), ["four", "<b>"])
    learner.save(folder / "second")
    return folder / "first", folder / "second"


@pytest.fixture
def saved(two_learners, tmp_path):
    """A copy of the first learner."""
    return shutil.copytree(two_learners[0], tmp_path / "saved")
