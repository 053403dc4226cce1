"""What a folder holds for a learner."""

import os

import pytest
from made import learnt_glyph
from months import month
from PIL import Image

from segp_ext.run import learning
from segp_ext.run.learning import chosen, look


@pytest.fixture(scope="module")
def learner():
    return learnt_glyph()


@pytest.fixture
def folder(tmp_path, learner):
    """A known class, a new one, one of a single image, an empty one, and a file that is no image."""
    known = learner.class_names[0]
    month(tmp_path / "photos", ["digit_7"])
    month(tmp_path / "photos", ["lone 8"], count=1)
    (tmp_path / "photos" / known).mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "photos" / known / "one.png")
    (tmp_path / "photos/empty").mkdir()
    (tmp_path / "photos/digit_7/notes.txt").write_text("no image")
    return tmp_path / "photos"


def test_a_folder_is_looked_at(learner, folder):
    found = look(learner, folder)
    assert list(found.new.files) == ["digit 7"] and len(found.new.files["digit 7"]) == 6
    assert list(found.known.files) == [learner.class_names[0]]
    assert found.refused == {"empty": "0 images; 2 are needed", "lone 8": "1 image; 2 are needed"}
    assert found.lines() == [
        "new: digit 7 (6 images)",
        f"known: {learner.class_names[0]} (1 image)",
        "refused: empty (0 images; 2 are needed), lone 8 (1 image; 2 are needed)",
        "left alone: digit_7/notes.txt",
    ]
    assert "digit_7" in look(learner, folder, "folders").new.files


def test_known_classes_are_refused_left_out_or_taken(learner, folder):
    found = look(learner, folder)
    with pytest.raises(ValueError, match=r"learnt already: .*; --known update lets these classes take the new images"):
        chosen(found, "refuse")
    assert list(chosen(found, "skip").files) == ["digit 7"]
    assert list(chosen(found, "update").files) == ["digit 7", learner.class_names[0]]


def test_a_folder_without_a_class_to_learn_is_refused(learner, tmp_path):
    (tmp_path / "photos/empty").mkdir(parents=True)
    month(tmp_path / "photos", ["lone 8"], count=1)
    with pytest.raises(
        ValueError, match=r"the folder holds no class to learn; refused: .*lone 8 \(1 image; 2 are needed\)"
    ):
        chosen(look(learner, tmp_path / "photos"), "refuse")


@pytest.mark.parametrize("change", ["other content of one size", "another file", "another name"])
def test_progress_of_other_images_is_not_gone_on_with(learner, folder, monkeypatch, change):
    starts = []

    def kept(place, steps, processes, device, start):
        starts.append(start)
        raise InterruptedError

    monkeypatch.setattr(learning, "TaskProgress", kept)

    def begin():
        images = chosen(look(learner, folder), "skip")
        with pytest.raises(InterruptedError):
            learning.learn_images(learner, images, folder.parent / "saved", "skip", None)

    begin(), begin()
    file = sorted((folder / "digit_7").glob("*.png"))[0]
    if change == "another name":
        (folder / "digit_7").rename(folder / "digit_9")
    elif change == "another file":
        file.rename(file.with_name("other.png"))
    else:
        file.write_bytes(file.read_bytes()[:-1] + b"\0")
        os.utime(file, (1, 1))
    begin()
    assert starts[0] == starts[1] != starts[2]


def test_a_part_for_training_is_taken_alone(learner, tmp_path):
    month(tmp_path / "photos/train", ["digit 7"])
    month(tmp_path / "photos/test", ["digit 7"], first=10)
    files = look(learner, tmp_path / "photos").new.files["digit 7"]
    assert len(files) == 6 and all("train" in file.parts for file in files)
