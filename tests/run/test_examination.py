"""Examinations: every trouble of a data set or an installation is a problem with its remedy."""

import re

import pytest
from examined import examined
from PIL import Image
from trees import cifar100, make

import segp_ext
from segp_ext import doctor
from segp_ext.data.array_pickle import read_arrays
from segp_ext.run import command_line
from segp_ext.run.examination import examine
from segp_ext.run.run import Run


def test_every_trouble_is_a_problem_with_a_remedy(tmp_path, capsys):
    make(tmp_path, {"train/a": 4, "train/b": 2, "train/c": 5, "test/a": 2, "test/b": 2, "test/c": 2})
    (tmp_path / "train/a/00.jpg").write_bytes(b"no image")
    (tmp_path / "test/c/gone.jpg").symlink_to(tmp_path / "nowhere")
    arguments = ["--data.classes_per_task=1", "--data.order=null", "--min_images_per_class=5"]
    report = examined(tmp_path, *arguments)
    contents = report.data[0].contents
    assert report.data[0].missing == ["test/c/gone.jpg (a broken link, or no file)"]
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
    assert report.problems == [] and report.data[0].contents is None
    assert "not opened (--quick)" in doctor.text(report) and "(images and model not opened)" in doctor.text(report)
    assert doctor.main(["--config=clip", f"--data.root={tmp_path}", "--quick"]) == 0


def test_a_protocol_and_what_was_changed_is_said(tmp_path):
    report = examined(cifar100(tmp_path), "--protocol=rapf-cifar100", "--data.order=null", quick=True)
    assert report.settings["protocol"] == "rapf-cifar100, changed: data.order, model.name"
    assert report.data[0].layout.startswith("CIFAR100") and len(report.data[0].tasks) == 10


def test_duplicates_of_arrays_are_found_by_pixels(tmp_path):
    """The archive's images of one class and part are alike."""
    report = examined(cifar100(tmp_path), "--protocol=rapf-cifar100")
    assert len(read_arrays(tmp_path / "cifar-100-python/train")["data"]) == 200
    assert len(report.data[0].contents.within["train"]) == 100 and report.data[0].contents.within["test"] == []
    assert report.data[0].contents.across == [] and report.problems == []


def test_an_order_of_other_classes_is_a_problem_and_counts_are_still_told(tmp_path):
    make(tmp_path, {f"{part}/{name}": 2 for part in ("train", "test") for name in ("001.Some_bird", "002.Other")})
    report = examined(tmp_path, "--protocol=segp-cub200", quick=True)
    assert len(report.problems) == 1 and "is an order of 200 classes, but the data set has 2" in report.problems[0]
    assert report.data[0].parts["train"] == [2, 2] and report.data[0].tasks == []


def test_the_eager_path_is_a_problem(monkeypatch):
    built = {**segp_ext.build_info(), "ops_path": "eager", "reason": "no library; run `pip install .`"}
    monkeypatch.setattr(segp_ext, "build_info", lambda: built)
    report = examine(command_line.parse([]), quick=True)
    assert report.problems == ["The native kernels are not in use: no library; run `pip install .`."]


def test_weights_are_named_as_a_saved_learner_names_them(tmp_path):
    given = "--model.name=ViT-B-32", f"--model.pretrained={tmp_path / 'w.pt'}"
    report = examine(command_line.parse(["--data.max_images_per_class=2", *given]))
    named = f"ViT-B-32 with the weights file {tmp_path / 'w.pt'}"
    assert report.settings["model"] == named and report.settings["data set"] == "digits"
    assert report.problems == [f"model.pretrained: {named} is not there. Looked for: {tmp_path / 'w.pt'}"]
    others = {"glyph": ([], "its own weights"), "ViT-B-32": (["--model.pretrained=none"], "random weights")}
    for name, (arguments, words) in others.items():
        report = examine(command_line.parse([f"--model.name={name}", *arguments]), quick=True)
        assert report.settings["model"] == f"{name} with {words}"


@pytest.mark.slow
def test_what_would_stop_a_run_is_a_problem(tmp_path):
    """Each case is a problem for an examination, and an error for a run."""
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
        problems = examine(config).problems
        assert any(message in problem for problem in problems), (arguments, problems)
        with pytest.raises((ValueError, OSError), match=re.escape(message)):
            Run(config)
    assert not (tmp_path / "runs").exists()
    assert examine(command_line.parse([*usual, "--data.class_list=two"])).problems == []


def test_unreadable_images_left_out_can_leave_a_class_empty(tmp_path):
    make(tmp_path, {f"{part}/{c}": 1 for part in ("train", "test") for c in "ab"})
    (tmp_path / "train/b/00.jpg").write_bytes(b"no image")
    problems = examined(tmp_path, "--data.unreadable=skip").problems
    assert any("class 'b' of " in problem and "has no train image" in problem for problem in problems)


def test_one_class_is_a_problem(tmp_path):
    make(tmp_path, {"train/a": 2, "test/a": 1})
    assert "There is only one class, a, so" in examined(tmp_path, quick=True).problems[0]


@pytest.mark.parametrize(("inner", "doubted"), [("dog", True), ("images", False)])
def test_one_folder_of_the_same_name_in_every_class_is_a_problem(tmp_path, inner, doubted):
    make(tmp_path, {f"{top}/{inner}": 4 for top in ("photo", "sketch")})
    problems = examined(tmp_path, quick=True).problems
    assert [("photo, sketch are where" in problem and "If 'dog' is the class" in problem) for problem in problems] == [
        True
    ] * doubted
    assert examined(tmp_path, "--data.merge_folders=true", quick=True).problems == []
