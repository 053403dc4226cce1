"""The measurement of likely wrong labels: its flips, its arithmetic, and the command on a few images."""

import numpy as np
import pytest
import torch
from called import call
from PIL import Image

from evidence import suspects
from segp_ext.run.label_check import Encoded


def test_flips_change_as_many_labels_as_asked():
    label = np.repeat(np.arange(4), 50)
    changed = suspects.flipped(label, 0.1, 3)
    assert (changed != label).sum() == 20 and changed.min() >= 0 and changed.max() <= 3
    assert (suspects.flipped(label, 0.1, 3) == changed).all() and (suspects.flipped(label, 0.1, 4) != changed).any()
    assert (suspects.flipped(label, 0.0, 3) == label).all()


def test_precision_and_recall_by_hand(monkeypatch):
    true, given = np.array([0, 0, 0, 1, 1, 1]), np.array([0, 0, 1, 1, 1, 0])
    probabilities = np.array([[0.9, 0.1], [0.05, 0.95], [0.1, 0.9], [0.1, 0.9], [0.1, 0.9], [0.05, 0.95]])
    monkeypatch.setattr(suspects, "held_out_probabilities", lambda *given: probabilities)
    encoded = Encoded([*range(6)], torch.eye(6), [bytes([n]) for n in range(6)], torch.eye(6, 256))
    found = suspects.measured(encoded, true, given, None)
    # Suspects are image 5, which is flipped, and image 1, which is not; image 2 is missed.
    assert (found["suspects"], found["precision"], found["recall"], found["class"]) == (2, 0.5, 0.5, 1.0)
    assert found["first"] == 0.5 and found["accuracy"] == pytest.approx(4 / 6)


@pytest.mark.slow
def test_the_command_writes_both_tables(tmp_path, monkeypatch):
    draw = np.random.RandomState(0)
    for name, colour in (("red", (200, 50, 50)), ("blue", (50, 50, 200))):
        folder = tmp_path / "cifar/train" / name
        folder.mkdir(parents=True)
        for number in range(20):
            pixels = np.clip(np.array(colour) + draw.randint(-40, 41, (16, 16, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    chosen = {suspects.SHIPPED: suspects.CANDIDATES[suspects.SHIPPED]}
    monkeypatch.setattr(suspects, "CANDIDATES", chosen)
    monkeypatch.setattr(suspects, "COPIES", 5)
    labels, copies = tmp_path / "labels.md", tmp_path / "copies.md"
    call(suspects.main, monkeypatch, "--cifar", tmp_path / "cifar", "--seeds", "1", "--out", labels, "--copies", copies)
    assert labels.read_text().count("| **LDA, shrinkage** |") == 6
    assert "| CIFAR10 | none | 5 | 5 | 5 | 5 | 5 |" in copies.read_text()
