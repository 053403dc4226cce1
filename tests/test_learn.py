"""The commands that make a learner and let it learn folders: `segp new` and `segp learn`."""

import json
import shutil

import pytest
import torch
from months import FAST, month

from segp_ext import learn, new
from segp_ext.method.learner import SeGPCL
from segp_ext.storage.learner_lock import held_alone
from segp_ext.storage.sealed import identity


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A learner of two digits, learnt by the command, and a folder of two more."""
    folder = tmp_path_factory.mktemp("learn")
    month(folder / "january", ["digit_1", "digit_2"], count=10)
    month(folder / "february", ["digit_3", "digit_4"], count=10)
    assert new.main([str(folder / "animals"), str(folder / "january"), *FAST]) == 0
    return folder


@pytest.fixture
def story(made, tmp_path):
    """A copy of the learner and the folders."""
    shutil.copytree(made, tmp_path / "story")
    return tmp_path / "story"


def facts(place):
    return json.loads((place / "learner.json").read_text())


def test_a_learner_is_made_with_method_auto(made):
    learner = SeGPCL.load(made / "animals", "cpu")
    assert learner.class_names == ("digit 1", "digit 2") and learner.config.method == "auto"
    assert learner.frozen is not None and len(learner.held) == 4 and learner.calibration.images == 4
    assert [(record.task, record.images) for record in learner.records] == [(1, 10), (1, 10)]
    assert not [*made.glob(".animals*")]


def test_a_month_is_learnt_and_said(story, capsys):
    assert learn.main([str(story / "animals"), str(story / "february")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    for part in (
        "new: digit 3 (10 images), digit 4 (10 images)",
        "learnt digit 3, digit 4: 20 images, 4 classes in all, in",
        "held back 4 images of the new classes:",
        "all 8 images held back so far:",
        "scores from now on:",
        "old classes moved by 0.",
        f"saved to {story / 'animals'};",
    ):
        assert part in said, said
    assert facts(story / "animals")["task_sizes"] == [2, 2]


def test_known_classes_are_refused_or_take_images(story, capsys):
    month(story / "march", ["digit_1"], count=5, first=20)
    before = SeGPCL.load(story / "animals", "cpu")
    assert learn.main([str(story / "animals"), str(story / "march")]) == 2
    assert capsys.readouterr().err.startswith("error: learnt already: digit 1; --known update")
    assert learn.main([str(story / "animals"), str(story / "march"), "--known", "update"]) == 0
    assert "old classes moved by 0." in " ".join(capsys.readouterr().out.split())
    after = SeGPCL.load(story / "animals", "cpu")
    assert [record.images for record in after.records] == [15, 10] and after.task_sizes == [2, 0]
    assert not torch.equal(after.prototypes[0], before.prototypes[0])
    assert torch.equal(after.prototypes[1], before.prototypes[1])
    assert after.config.known_classes == "refuse"


def test_classes_that_cannot_be_learnt_do_not_hold_the_others_up(story, capsys):
    month(story / "february", ["lone 7"], count=1)
    assert learn.main([str(story / "animals"), str(story / "february"), "--progress"]) == 1
    said = capsys.readouterr().out
    assert "refused: lone 7 (1 image; 2 are needed)" in said and "progress 100 training" in said
    assert facts(story / "animals")["task_sizes"] == [2, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["animals", "nowhere"], "error: no folder '"),
        (
            ["animals", "january/digit_1"],
            "move them to one folder per class; accepted: <folder>/<class>/*, or <folder>/train/<class>/*\n",
        ),
        (["nowhere", "february"], "no checkpoint at"),
        (["january", "february"], "no checkpoint at"),
        (["animals", "january"], "learnt already: digit 1, digit 2; --known update"),
        (["animals", "january", "--known=skip"], "the folder holds no class to learn; known: digit 1"),
        (["animals", "january", "--known=train"], "training.classes must be seen with known_classes train; got 'new'"),
    ],
)
def test_what_cannot_be_learnt_is_said_in_a_line(story, capsys, arguments, message):
    before = (story / "animals/learner.json").read_bytes()
    place, folder, *rest = arguments
    assert learn.main([str(story / place), str(story / folder), *rest]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and message in said and said.count("\n") == 1
    assert (story / "animals/learner.json").read_bytes() == before


def test_an_image_that_cannot_be_read_is_named(story, capsys):
    (story / "february/digit_3/torn.jpg").write_text("no image")
    assert learn.main([str(story / "animals"), str(story / "february")]) == 2
    said = capsys.readouterr().err
    assert "torn.jpg as an image:" in said and said.endswith("; mend the file, or take it out of its folder\n")
    assert "--data." not in said and facts(story / "animals")["task_sizes"] == [2]


def test_two_processes_do_not_change_one_learner(story, capsys):
    with held_alone(story / "animals"):
        assert learn.main([str(story / "animals"), str(story / "february")]) == 2
    assert "another process changes" in capsys.readouterr().err


def test_a_place_that_is_taken_is_refused(story, capsys):
    assert new.main([str(story / "animals"), str(story / "february"), *FAST]) == 2
    assert "is there already;" in capsys.readouterr().err


def test_another_learner_at_the_place_is_kept(story, capsys):
    shutil.copytree(story / "animals", story / "other")
    before = identity(story / "other")
    assert learn.main([str(story / "animals"), str(story / "february"), "--out", str(story / "other")]) == 2
    said = capsys.readouterr()
    assert "other holds another learner, which would be lost; choose another place" in said.err and not said.out
    assert identity(story / "other") == before
    (story / "link").symlink_to(story / "animals")
    assert learn.main([str(story / "link"), str(story / "february"), "--out", str(story / "animals")]) == 0
    assert facts(story / "animals")["task_sizes"] == [2, 2]


def test_a_place_for_no_learner_is_refused_before_learning(story, capsys, monkeypatch):
    (story / "mine").mkdir()
    (story / "mine/notes.txt").write_text("mine")
    assert learn.main([str(story / "animals"), str(story / "february"), "--out", str(story / "mine")]) == 2
    said = capsys.readouterr()
    assert "mine exists and is not a checkpoint" in said.err and not said.out
    monkeypatch.chdir(story / "animals")
    assert learn.main([".", str(story / "february")]) == 2
    (story / "empty").mkdir()
    monkeypatch.chdir(story / "empty")
    assert new.main([".", str(story / "february"), *FAST]) == 2
    said = capsys.readouterr()
    assert said.err.count("is the folder that this process works in") == 2 and not said.out


def test_what_is_refused_leaves_no_folder_behind(story):
    there = sorted(story.rglob("*"))
    assert new.main([str(story / "a/deep/place"), str(story / "nowhere"), *FAST]) == 2
    assert learn.main([str(story / "animals"), str(story / "january"), "--out", str(story / "a/deep/place")]) == 2
    assert sorted(story.rglob("*")) == there


def test_settings_that_would_do_nothing_are_refused(story, capsys):
    for setting in ("--data.unreadable=skip", "--data.root=elsewhere", "--run.name=mine"):
        assert new.main([str(story / "one"), str(story / "january"), *FAST, setting]) == 2
        assert f"error: {setting.partition('=')[0]} is a setting of runs;" in capsys.readouterr().err
    assert not (story / "one").exists()
    assert new.main([str(story / "one"), str(story / "january"), *FAST, "--data.names=folders"]) == 0
    assert [entry["name"] for entry in facts(story / "one")["classes"]] == ["digit_1", "digit_2"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "LEARNER and FOLDER are needed; got neither"),
        (["one"], "LEARNER and FOLDER are needed; got one"),
        (["one", "january", "--method", "sgep"], "method must be one of segp"),
        (["one", "january", "--colour=red"], "unrecognized arguments: --colour=red"),
    ],
)
def test_arguments_of_new_that_do_not_fit_are_named(story, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(story)
    with pytest.raises(SystemExit) as stop:
        new.main(arguments)
    assert stop.value.code == 2 and message in capsys.readouterr().err


def test_a_run_is_learnt_on_under_another_name(finished, story, capsys):
    last = max((finished / "checkpoints").glob("task-*"))
    before = identity(last)
    for place in (finished, last, finished / "checkpoints/latest"):
        assert learn.main([str(place), str(story / "february")]) == 2
        said = capsys.readouterr()
        assert "whose checkpoints stay as they are; save a copy with --out FOLDER" in said.err and not said.out
    assert learn.main([str(finished), str(story / "february"), "--out", str(last)]) == 2
    assert "belongs to a run" in capsys.readouterr().err and identity(last) == before
    assert learn.main([str(finished), str(story / "february"), "--out", str(story / "more")]) == 0
    assert len(SeGPCL.load(story / "more", "cpu").class_names) == 12


def test_sentences_of_a_file_are_read_for_their_classes(story, capsys):
    (story / "said.json").write_text('{"digit 3": ["a three.", "the numeral {}"]}')
    arguments = [str(story / "animals"), str(story / "february"), "--descriptions", str(story / "said.json")]
    assert learn.main(arguments) == 0
    learner = SeGPCL.load(story / "animals", "cpu")
    assert learner.records[2].sentences(learner.config.template) == ["a three.", "the numeral digit 3"]
    assert learner.records[3].wording.prompts == []
    again = [*arguments, "--known", "update"]
    (story / "said.json").write_text('{"digit 3": ["another three."]}')
    assert learn.main(again) == 0
    assert "digit 3: known classes keep the sentences that they were learnt with" in capsys.readouterr().out
    assert SeGPCL.load(story / "animals", "cpu").records[2].wording.prompts == ["a three.", "the numeral {}"]
    (story / "said.json").write_text('{"digit 5": ["a five."]}')
    assert learn.main(again) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "no class is named digit 5; the classes are" in said


def test_a_new_learner_takes_sentences_too(story, capsys):
    (story / "said.json").write_text('{"digit 2": ["a two."]}')
    wrong = ["--descriptions", str(story / "said.json")]
    assert new.main([str(story / "others"), str(story / "january"), *wrong]) == 2
    assert "--descriptions is an option of learn; new takes" in capsys.readouterr().err
    arguments = [str(story / "others"), str(story / "january"), f"--data.descriptions={story / 'said.json'}", *FAST]
    assert new.main(arguments) == 0
    assert SeGPCL.load(story / "others", "cpu").records[1].wording.prompts == ["a two."]
