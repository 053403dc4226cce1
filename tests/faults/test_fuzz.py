"""Random trees and settings, in a short form of `python tests/faults/fuzz.py`."""

import os

import pytest
from fuzz import Fuzz

from segp_ext.config import DataConfig
from segp_ext.data import load_scenario


@pytest.mark.slow
def test_random_trees_and_settings_are_taken_or_refused(tmp_path):
    fuzz = Fuzz(0, tmp_path / "tree")
    fuzz.run(1500)
    for outcome in ("tree: loaded", "tree: refused", "settings: taken", "settings: refused"):
        assert fuzz.outcomes[outcome] > 10, fuzz.outcomes


def test_trees_that_made_trouble(tmp_path):
    """Names that are not valid UTF-8, and a pipe in an image's place, which a reader would wait for."""
    fuzz = Fuzz(0, tmp_path / "tree")
    for name in ("cat", "dog"):
        for part in ("train", "test"):
            (tmp_path / part / name).mkdir(parents=True)
            (tmp_path / part / name / "0.jpg").write_bytes(fuzz.contents[0])
    config = DataConfig(name="folder", root=str(tmp_path))
    os.mkfifo(tmp_path / "train/cat/1.jpg")
    with pytest.raises(FileNotFoundError, match="train/cat/1.jpg .a broken link, or no file."):
        load_scenario(config)
    (tmp_path / "train/cat/1.jpg").unlink()
    (tmp_path / "train/cat/\udcff.jpg").write_bytes(fuzz.contents[0])
    assert len(load_scenario(config).tasks[0].train) == 3
    (tmp_path / "train/\udcff").mkdir()
    with pytest.raises(ValueError, match=r"class folder '\\udcff' of .* has a name that is not valid UTF-8; rename it"):
        load_scenario(config)
