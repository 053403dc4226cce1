"""The doctor: a sound machine and data set, and every trouble named with what to do."""

import re

import numpy as np
import pytest
from PIL import Image
from trees import cifar100, make

from segp_ext import doctor, train
from segp_ext.clip.pretrained import load_clip
from segp_ext.data.array_pickle import read_arrays
from segp_ext.run import command_line
from segp_ext.run.preflight import codes


def examined(root, *arguments, quick=False):
    return doctor.examine(
        command_line.parse(["--config=clip", "--model.name=glyph", f"--data.root={root}", *arguments]), quick
    )


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
    assert report.data.stray == ["train/a/notes.txt"] and report.data.tasks == [(1, 8, 8), (1, 8, 8)]
    assert report.data.parts == {"train": [8, 8], "test": [8, 8]}
    assert report.data.contents.opened == 32 and report.data.contents.contradicting == 0
    assert "stray files           1: train/a/notes.txt (no images, or in no class folder; left alone)" in doctor.text(
        report
    )
    assert "Images of each class, training + test\n  a  8 + 8\n  b  8 + 8" in doctor.text(report)


def test_every_trouble_is_a_problem_with_a_remedy(tmp_path, capsys):
    make(tmp_path, {"train/a": 4, "train/b": 2, "train/c": 5, "test/a": 2, "test/b": 2, "test/c": 2})
    (tmp_path / "train/a/00.jpg").write_bytes(b"no image")
    (tmp_path / "test/c/gone.jpg").symlink_to(tmp_path / "nowhere")
    arguments = ["--data.classes_per_task=1", "--data.order=null", "--min_images_per_class=5"]
    report = examined(tmp_path, *arguments)
    contents = report.data.contents
    assert report.data.missing == ["test/c/gone.jpg (a broken link, or no file)"]
    assert list(contents.unreadable.values()) == [("train/a/00.jpg", "cannot identify image file")]
    # 00.jpg and 01.PNG are the same in every folder, 02.jpg and 03.PNG in a and c
    assert contents.across == [
        *(("train/a/01.PNG", f"test/{c}/01.PNG") for c in "abc"),
        *(("train/b/00.jpg", f"test/{c}/00.jpg") for c in "abc"),
    ]
    assert sorted(len(group) for group in contents.within["train"]) == [2, 2, 2, 3]
    assert [len(group) for group in contents.within["test"]] == [3, 3] and contents.contradicting == 4
    expected = [
        (
            "listed or linked but not there: test/c/gone.jpg",
            "Put them there, or leave them out with --data.unreadable skip",
        ),
        ("1 image(s) are unreadable: train/a/00.jpg (cannot identify image file)", "Replace them, or leave them out"),
        ("6 test image(s) are training images as well: train/a/01.PNG = test/a/01.PNG", "take them out of one part"),
        ("class 'a' has 4 training image(s); at least 5 are needed", "setting min_images_per_class"),
        ("class 'b' has 2 training image(s); at least 5 are needed", "setting min_images_per_class"),
    ]
    assert len(report.problems) == len(expected)
    for problem, (what, remedy) in zip(report.problems, expected, strict=True):
        assert what in problem and remedy in problem
    assert doctor.main(["--config=clip", "--model.name=glyph", f"--data.root={tmp_path}", *arguments]) == 1
    said = capsys.readouterr().out
    assert "5 problem(s)\n  1. 1 image(s) are listed" in said and "same image, two classes  4" in said
    assert "train, fewest            b (2), a (4), c (5)" in said


def test_left_out_on_request_is_no_problem(tmp_path):
    make(tmp_path, {"train/a": 6, "train/b": 6, "test/a": 1, "test/b": 1})
    for path in (*(tmp_path / "test").rglob("*.jpg"), tmp_path / "train/b/00.jpg"):
        path.write_bytes(path.parent.name.encode())
    (tmp_path / "train/a/05.PNG").unlink()
    for name in "ab":
        Image.new("RGB", (4, 4), {"a": "red", "b": "blue"}[name]).save(tmp_path / f"test/{name}/whole.png")
    problems = examined(tmp_path, "--data.unreadable=skip").problems
    assert problems == []


def test_quick_opens_nothing(tmp_path):
    make(tmp_path, {"train/a": 6, "test/a": 1, "train/b": 1, "test/b": 1})
    (tmp_path / "train/a/00.jpg").write_bytes(b"no image")
    report = examined(tmp_path, "--model.pretrained=nowhere.pt", quick=True)
    assert report.problems == [] and report.data.contents is None
    assert "not opened (--quick)" in doctor.text(report) and "(images and model not opened)" in doctor.text(report)
    assert doctor.main(["--config=clip", f"--data.root={tmp_path}", "--quick"]) == 0


def test_a_data_set_that_cannot_be_read_is_the_problem(tmp_path, capsys):
    make(tmp_path, {"train/a": 2, "test/b": 2})
    assert doctor.main([f"--data.root={tmp_path}"]) == 1
    assert "1. data.root: class folder 'a' is in train/ but not in test/" in capsys.readouterr().out
    assert doctor.main(["--protocol=segp-cub200"]) == 1
    said = capsys.readouterr().out
    assert "1. data.root is not set" in said and "protocol  segp-cub200" in said


def test_a_protocol_and_what_was_changed_is_said(tmp_path):
    report = examined(cifar100(tmp_path), "--protocol=rapf-cifar100", "--data.order=null", quick=True)
    assert report.settings["protocol"] == "rapf-cifar100, changed: data.order, model.name"
    assert report.data.layout.startswith("CIFAR100") and len(report.data.tasks) == 10


def test_duplicates_of_arrays_are_found_by_pixels(tmp_path):
    """The archive's images of one class and part are alike."""
    report = examined(cifar100(tmp_path), "--protocol=rapf-cifar100")
    assert len(read_arrays(tmp_path / "cifar-100-python/train")["data"]) == 200
    assert len(report.data.contents.within["train"]) == 100 and report.data.contents.within["test"] == []
    assert report.data.contents.across == [] and report.problems == []


def test_an_order_of_other_classes_is_a_problem_and_counts_are_still_told(tmp_path):
    make(tmp_path, {f"{part}/{name}": 2 for part in ("train", "test") for name in ("001.Some_bird", "002.Other")})
    report = examined(tmp_path, "--protocol=segp-cub200", quick=True)
    assert len(report.problems) == 1 and "is an order of 200 classes, but the data set has 2" in report.problems[0]
    assert report.data.parts["train"] == [2, 2] and report.data.tasks == []


def test_the_eager_path_is_a_problem(monkeypatch):
    built = {**doctor.segp_ext.build_info(), "ops_path": "eager", "reason": "no library; run `pip install .`"}
    monkeypatch.setattr(doctor.segp_ext, "build_info", lambda: built)
    report = doctor.examine(command_line.parse([]), quick=True)
    assert report.problems == ["The native kernels are not in use: no library; run `pip install .`."]


def test_weights_are_named_as_a_saved_learner_names_them(tmp_path):
    given = "--model.name=ViT-B-32", f"--model.pretrained={tmp_path / 'w.pt'}"
    report = doctor.examine(command_line.parse(["--data.max_images_per_class=2", *given]))
    named = f"ViT-B-32 with the weights file {tmp_path / 'w.pt'}"
    assert report.settings["model"] == named and report.settings["data set"] == "digits"
    assert report.problems == [f"model.pretrained: {named} is not there. Looked for: {tmp_path / 'w.pt'}"]
    others = {"glyph": ([], "its own weights"), "ViT-B-32": (["--model.pretrained=none"], "random weights")}
    for name, (arguments, words) in others.items():
        report = doctor.examine(command_line.parse([f"--model.name={name}", *arguments]), quick=True)
        assert report.settings["model"] == f"{name} with {words}"


def test_wrong_settings_exit_with_2(capsys):
    with pytest.raises(SystemExit) as stop:
        doctor.main(["--data.rot", "x"])
    assert stop.value.code == 2 and "python -m segp_ext.doctor" in capsys.readouterr().err


def test_help_is_the_doctors_own(capsys):
    with pytest.raises(SystemExit) as stop:
        doctor.main(["--help"])
    said = capsys.readouterr().out
    assert stop.value.code in (0, None) and "--quick" in said and "usage: python -m segp_ext.doctor" in said


@pytest.mark.slow
def test_what_would_stop_a_run_is_a_problem(tmp_path):
    """All that a run would refuse, and a run would refuse it."""
    make(tmp_path / "data", {f"{part}/{c}": 6 for part in ("train", "test") for c in ("Fox", "fox", "w " * 12 + "w")})
    make(tmp_path / "held", {f"{part}/{c}": 1 for part in ("train", "test") for c in ("x y z " * 5, "b")})
    unlike = {file: index for index, file in enumerate(sorted(tmp_path.rglob("*.*")))}
    for file, index in unlike.items():
        Image.new("RGB", (4, 4), (index, 0, 0)).save(file, "PNG")
    root = f"--data.root={tmp_path / 'data'}"
    cases = [
        ([f"--held_out=[{tmp_path / 'held'}]", "--data.class_list=two"], "prompt does not fit"),
        (["--data.class_list=alike"], "read the same to the text encoder"),
        (["--data.class_list=long"], "prompt does not fit the 12 tokens"),
        (["--data.class_list=two", "--lora.targets=[nope]"], "lora.targets: no layer of glyph ends in 'nope'"),
        (["--data.class_list=two", "--lora.rank=10000"], "lora.rank must be at most"),
        (
            ["--data.class_list=two", "--data.max_images_per_class=1"],
            " has 1 training image(s); at least 2 are needed",
        ),
        (["--data.class_list=two", f"--anchors.folder={tmp_path / 'gone'}"], "anchors.folder"),
        (["--data.class_list=two", "--loading.resize=device"], "odd.png 5×4; use --loading.resize exact"),
        (["--data.class_list=two", "--model.pretrained=laion400m_e32"], "glyph brings its own weights"),
    ]
    make(tmp_path / "data", {f"{part}/b": 0 for part in ("train", "test")})
    for part in ("train", "test"):
        for number in range(6):
            Image.new("RGB", (4, 4), (number, 9, len(part))).save(tmp_path / f"data/{part}/b/{number}.png")
    Image.new("RGB", (5, 4)).save(tmp_path / "data/test/b/odd.png")
    for name, lines in (("two", ["fox", "b"]), ("alike", ["Fox", "fox"]), ("long", ["w " * 12 + "w", "b"])):
        (tmp_path / "data" / name).write_text("\n".join(lines))
    usual = ["--config=clip", "--model.name=glyph", root, f"--run.directory={tmp_path / 'runs'}"]
    for arguments, message in cases:
        config = command_line.parse([*usual, *arguments])
        problems = doctor.examine(config).problems
        assert any(message in problem for problem in problems), (arguments, problems)
        with pytest.raises((ValueError, OSError), match=re.escape(message)):
            train.Run(config)
    assert not (tmp_path / "runs").exists()
    assert doctor.examine(command_line.parse([*usual, "--data.class_list=two"])).problems == []


def test_unreadable_images_left_out_can_leave_a_class_empty(tmp_path):
    make(tmp_path, {f"{part}/{c}": 1 for part in ("train", "test") for c in "ab"})
    (tmp_path / "train/b/00.jpg").write_bytes(b"no image")
    problems = examined(tmp_path, "--data.unreadable=skip").problems
    assert any("class 'b' of " in problem and "has no train image" in problem for problem in problems)


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
    notes = doctor.examine(command_line.parse(clip), quick=True).notes
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
    monkeypatch.setattr(doctor, "load_clip", lambda *_, **__: load_clip("glyph"))
    notes = doctor.examine(config).notes
    assert (
        "2 of 2 class names of held are numbers or codes" in notes[1] and "name its class folders in words" in notes[1]
    )
    assert doctor.examine(command_line.parse([]), quick=True).notes == []  # the built-in digits
    assert doctor.examine(command_line.parse([*clip, "--model.pretrained=null"]), quick=True).notes == []


def test_all_names_over_the_context_are_named(tmp_path):
    long = [f"{word} {'x ' * 12}" for word in ("fox", "owl", "cow", "elk", "bee")]
    make(tmp_path / "data", {f"{part}/{name}": 6 for part in ("train", "test") for name in (*long, "b")})
    problems = [p for p in examined(tmp_path / "data").problems if "prompt does not fit" in p]
    assert len(problems) == 1 and problems[0].count("a photo of a ") == 3 and " and 2 more; shorten" in problems[0]
    problems = doctor.examine(command_line.parse([f"--held_out=[{tmp_path / 'data'}]"])).problems
    assert problems and problems[0].startswith("held_out: data: prompt does not fit the 12 tokens")


def test_one_class_is_a_problem(tmp_path):
    make(tmp_path, {"train/a": 2, "test/a": 1})
    assert "There is but one class, a: " in examined(tmp_path, quick=True).problems[0]


@pytest.mark.parametrize(("inner", "doubted"), [("dog", True), ("images", False)])
def test_one_folder_of_the_same_name_in_every_class_is_a_problem(tmp_path, inner, doubted):
    make(tmp_path, {f"{top}/{inner}": 4 for top in ("photo", "sketch")})
    problems = examined(tmp_path, quick=True).problems
    assert [("photo, sketch are where" in problem and "If 'dog' is the class" in problem) for problem in problems] == [
        True
    ] * doubted
    assert examined(tmp_path, "--data.merge_folders=true", quick=True).problems == []


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
