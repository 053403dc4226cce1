"""The doctor: a sound machine and data set, and every trouble named with what to do."""

import re

import numpy as np
import pytest
from examined import examined
from PIL import Image
from trees import make

from segp_ext import doctor


def test_the_built_in_data_set_is_sound(capsys):
    assert doctor.main([]) == 0
    said = capsys.readouterr().out
    for expected in ("native kernels", "torch  ", "open_clip_torch", "2 threads for torch", "scikit-learn's 8×8 scans", "1,257 images",
                     "5; classes (training + test images) of each: 2 (250 + 107)", "unreadable            none; 1,797 images opened",
                     "test images in train  none", "No problems found."):  # fmt: skip
        assert expected in said, expected


def test_a_sound_folder(tmp_path):
    """Every file of a tree of `make` with the same number is the same image, so these are written one by one."""
    for index, name in enumerate(f"{part}/{c}/{i}.png" for part in ("train", "test") for c in "ab" for i in range(8)):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4, 3), index, np.uint8)).save(path)
    (tmp_path / "train/a/notes.txt").write_text("x")
    report = examined(tmp_path, "--data.classes_per_task=1")
    assert report.problems == []
    assert report.data[0].stray == ["train/a/notes.txt"] and report.data[0].tasks == [(1, 8, 8), (1, 8, 8)]
    assert report.data[0].parts == {"train": [8, 8], "test": [8, 8]}
    assert report.data[0].contents.opened == 32 and report.data[0].contents.contradicting == 0
    assert "stray files           1: train/a/notes.txt (no images, or in no class folder; left alone)" in doctor.text(
        report
    )
    assert "Images of each class, training + test\n  a  8 + 8\n  b  8 + 8" in doctor.text(report)


def test_a_data_set_that_cannot_be_read_is_the_problem(tmp_path, capsys):
    make(tmp_path, {"train/a": 2, "test/b": 2})
    assert doctor.main([f"--data.root={tmp_path}"]) == 1
    assert "1. data.root: class folder 'a' is in train/ but not in test/" in capsys.readouterr().out
    assert doctor.main(["--protocol=segp-cub200"]) == 1
    said = capsys.readouterr().out
    assert "1. data.root is not set" in said and "protocol  segp-cub200" in said


def test_wrong_settings_exit_with_2(capsys):
    with pytest.raises(SystemExit) as stop:
        doctor.main(["--data.rot", "x"])
    assert stop.value.code == 2 and "python -m segp_ext.doctor" in capsys.readouterr().err


def test_help_is_the_doctors_own(capsys):
    with pytest.raises(SystemExit) as stop:
        doctor.main(["--help"])
    said = capsys.readouterr().out
    assert stop.value.code in (0, None) and "--quick" in said and "usage: python -m segp_ext.doctor" in said


@pytest.mark.parametrize(
    ("orientation", "said"),
    [("stored", "taken as stored unless --loading.orientation exif"), ("exif", "turned upright")],
)
def test_photographs_that_are_turned_are_counted(tmp_path, orientation, said):
    make(tmp_path, {"a": 2, "b": 2})
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(np.full((4, 5), 40_000, np.uint16)).save(tmp_path / "a/x.png", exif=exif)
    text = doctor.text(examined(tmp_path, f"--loading.orientation={orientation}"))
    assert re.search(r"turned by EXIF +1: a/x.png \((.*)\)\n", text)[1] == said


def test_many_classes_are_listed_on_request(tmp_path, capsys):
    make(tmp_path, {f"{part}/c{c}": 1 for part in ("train", "test") for c in range(21)})
    arguments = [f"--data.root={tmp_path}", "--quick"]
    doctor.main(arguments)
    assert "c20" not in capsys.readouterr().out
    doctor.main([*arguments, "--classes"])
    assert "\n  c20  1 + 1" in capsys.readouterr().out
