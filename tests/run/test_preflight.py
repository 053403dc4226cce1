"""Checks before the first task: names that a text encoder does not know, prompts that do not fit."""

import pytest
from examined import examined
from PIL import Image
from small_run import small_run
from trees import make

from segp_ext import doctor
from segp_ext.clip.pretrained import load_clip
from segp_ext.run import command_line, examination
from segp_ext.run.examination import examine
from segp_ext.run.preflight import codes


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a", "b", "c", "D" + " d" * 30), "prompt does not fit the "),
        (("a", "b", "c", "A"), "class names 'A' and 'a' read the same to the text encoder"),
    ],
)
def test_names_of_later_tasks_are_refused_at_the_start(tmp_path, names, message, capsys):
    for part, count in (("train", 4), ("test", 1)):
        for name in names:
            (tmp_path / "photos" / part / name).mkdir(parents=True)
            for image in range(count):
                Image.new("RGB", (8, 8), (image, 0, 0)).save(tmp_path / "photos" / part / name / f"{image}.png")
    arguments = [
        "--data.root",
        str(tmp_path / "photos"),
        "--data.classes_per_task=1",
        "--data.order=null",
        "--anchors.seeds_per_class=2",
    ]
    assert small_run(tmp_path, *arguments) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "run").exists()


MEANINGLESS = [
    ("00", "01", "42"), ("n01443537", "n01484850"), ("class_3", "class 12"), ("c0", "c1"), ("A", "b"), ("1-3", "7"),
    ("5f2b9c01aa", "deadbeef-0017"), ("sign 1", "sign 2"), ("C01", "D02"),
]  # fmt: skip


MEANINGFUL = [
    ("cat", "dog"), ("Boeing 747", "Airbus A380"), ("F-16", "ox"), ("7 up", "stop"), ("class", "go kart"), ("cafe", "deed"),
    ("speed limit 30", "no entry 2"), ("猫", "犬"), ("Boeing 707", "Boeing 737"), ("MiG-21", "MiG-29"), ("WW1", "WW2"),
]  # fmt: skip


@pytest.mark.parametrize("names", MEANINGLESS + MEANINGFUL)
def test_names_that_are_numbers_or_codes_are_told_from_words(names):
    assert codes([*names]) == (list(names) if names in MEANINGLESS else [])
    assert codes([*names, "a horse"]) == codes([*names])


def test_names_that_mean_nothing_are_noted(tmp_path, monkeypatch, capsys):
    """With a model whose text encoder knows words, and with the built-in one, which knows digits; a data set that is held out as well."""
    signs = [f"{number:02d}" for number in range(6)]
    make(tmp_path / "signs", {f"{part}/{name}": 2 for part in ("train", "test") for name in signs})
    make(tmp_path / "held", {f"{part}/{name}": 2 for part in ("train", "test") for name in ("id_1", "id_2")})
    clip = ["--config=clip", f"--data.root={tmp_path / 'signs'}"]
    said = "6 of 6 class names are numbers or codes, which mean little to a text encoder: "
    notes = examine(command_line.parse(clip), quick=True).notes
    assert (
        len(notes) == 1 and notes[0].startswith(said) and "and 1 more" in notes[0] and "--data.names_file" in notes[0]
    )
    assert doctor.main([*clip, "--quick"]) == 0 and f"note: {said}" in capsys.readouterr().out
    report = examined(tmp_path / "signs", f"--held_out=[{tmp_path / 'held'}]")
    assert [note[:86] for note in report.notes] == [
        "glyph was trained on digits and letters alone; to it these names mean nothing at first",
        "glyph was trained on digits and letters alone; to it these names of held mean nothing ",
    ]
    config = command_line.parse([*clip, f"--held_out=[{tmp_path / 'held'}]"])
    monkeypatch.setattr(examination, "load_clip", lambda *_, **__: load_clip("glyph"))
    notes = examine(config).notes
    assert (
        "2 of 2 class names of held are numbers or codes" in notes[1] and "name its class folders in words" in notes[1]
    )
    assert examine(command_line.parse([]), quick=True).notes == []  # the built-in digits
    assert examine(command_line.parse([*clip, "--model.pretrained=null"]), quick=True).notes == []


def test_all_names_over_the_context_are_named(tmp_path):
    long = [f"{word} {'x ' * 12}" for word in ("fox", "owl", "cow", "elk", "bee")]
    make(tmp_path / "data", {f"{part}/{name}": 6 for part in ("train", "test") for name in (*long, "b")})
    problems = [p for p in examined(tmp_path / "data").problems if "prompt does not fit" in p]
    assert len(problems) == 1 and problems[0].count("a photo of a ") == 3 and " and 2 more; shorten" in problems[0]
    problems = examine(command_line.parse([f"--held_out=[{tmp_path / 'data'}]"])).problems
    assert problems and problems[0].startswith("held_out: data: prompt does not fit the 12 tokens")
