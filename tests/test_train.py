"""The command: configuration, run directory, and what bad input says."""

import errno
import functools
import json
import os
import shutil
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from trees import cifar100

from segp_ext import train
from segp_ext.method.learner import SeGPCL
from segp_ext.report.run_report import percent
from segp_ext.run import command_line
from segp_ext.run import directory as run_directory

FAST = ["--data.max_images_per_class=6", "--training.epochs=1", "--data.classes_per_task=5", "--anchors.steps=2"]


def run(tmp_path, *arguments):
    return train.main([*FAST, f"--run.directory={tmp_path}", "--run.name=run", *arguments])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    assert run(folder) == 0
    return folder / "run"


@pytest.mark.slow
def test_a_compiled_run_says_how_many_passes_were(tmp_path, capsys, monkeypatch):
    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))  # which generates no code
    assert run(tmp_path, "--model.compile=true") == 0
    passes = json.loads((tmp_path / "run/result.json").read_text())["passes"]
    assert passes["total"] > 30 and passes["eager"] == 0
    line = f"Compiled: {passes['total']:,} of the encoders' {passes['total']:,} passes"
    assert line in capsys.readouterr().out and line in (tmp_path / "run/summary.md").read_text()


def test_a_run_directory_is_complete(finished):
    names = {str(path.relative_to(finished)) for path in finished.rglob("*") if path.is_file()}
    learner = {"learner.json", "learner.safetensors", "adapter_config.json", "adapter_model.safetensors"}
    checkpoint = {*learner, "run.json", "SHA256SUMS"}
    assert names == (
        {"config.yaml", "result.json", "summary.md", "report.html", "run.lock"}
        | {f"plots/{name}.png" for name in ("accuracy", "global", "r_matrix", "forgetting", "drift")}
        | {f"checkpoints/task-00{t}/{name}" for t in (0, 1, 2) for name in checkpoint}
    )
    assert (finished / "checkpoints/latest").resolve() == finished / "checkpoints/task-002"
    for plot in (finished / "plots").iterdir():
        shade = np.asarray(Image.open(plot).convert("L"))
        assert min(shade.shape) > 300 and shade.std() > 5  # something is drawn; what it looks like is for eyes


def test_the_result_holds_everything(finished):
    result = json.loads((finished / "result.json").read_text())
    assert result["status"] == "finished" and result["method"] == "segp"
    assert list(result["scores"]) == [
        "zero-shot",
        "frozen prototypes",
        "frozen rda",
        "segp (text)",
        "segp (visual)",
        "segp (dual)",
    ]
    for name, scores in result["scores"].items():
        assert [len(row) for row in scores["R"]] == [1, 2] and len(scores["A"]) == 2
        # both tasks have the same number of images, so the pooled accuracy is the mean of the row
        assert scores["A"][1] == pytest.approx(sum(scores["R"][1]) / 2)
        assert scores["avg"] == pytest.approx(sum(scores["A"]) / 2) and scores["last"] == scores["A"][1]
        assert scores["forgetting"] == pytest.approx(scores["R"][0][0] - scores["R"][1][0])
        assert (scores["fwt"] is None) == (name not in ("zero-shot", "segp (text)"))
        assert ("global_R" in scores) == (name in ("zero-shot", "segp (text)"))
    zero_shot, text = (result["scores"][name] for name in ("zero-shot", "segp (text)"))
    assert [len(row) for row in text["global_R"]] == [2, 2, 2] and len(text["global_A"]) == 3
    assert zero_shot["global_R"] == [text["global_R"][0]] * 3  # before the first task it is the pre-trained model
    assert zero_shot["global_A"][0] == pytest.approx(zero_shot["last"]) and text["global_A"][2] == text["last"]
    assert text["global_fwt"] == text["global_R"][1][1]
    assert text["global_bwt"] == text["global_R"][2][0] - text["global_R"][1][0]
    assert result["trained_parameters"] == 35_840
    assert len(result["protocol"]["hash"]) == 64 and result["protocol"]["id"].startswith("digits-2x5-glyph-")
    assert {"text", "seeds", "anchors", "training", "prototypes", "transfer", "evaluation", "baselines"} == set(
        result["phases"]
    )
    assert all(phase["wall"] >= phase["backbone"] >= 0 for phase in result["phases"].values())
    assert all(
        result["phases"][name]["backbone"] > 0 for name in ("seeds", "anchors", "training", "text", "evaluation")
    )
    assert result["versions"]["torch"] and "build" in result and result["device"]
    assert len(result["prototype_distance"]) == 1 and result["tasks"][1]["anchors"] == 5 * 20


@pytest.mark.slow
def test_the_saved_configuration_gives_the_same_run(finished, tmp_path):
    assert train.main(["--config", str(finished / "config.yaml"), f"--run.directory={tmp_path}"]) == 0
    first, again = (json.loads((d / "result.json").read_text()) for d in (finished, tmp_path / "run"))
    assert first["scores"] == again["scores"] and first["protocol"] == again["protocol"]


def test_a_checkpoint_of_the_run_predicts(finished):
    from segp_ext.data.digits import digits

    learner = SeGPCL.load(finished / "checkpoints/task-002")
    collection = digits()
    images = [collection.opener(collection.test[c][0]) for c in range(10)]
    named = [best[0].name for best in learner.predict(images, path="visual")]
    assert sum(name == str(c) for c, name in enumerate(named)) >= 6


def test_the_predict_command_names_image_files(finished, tmp_path, capsys):
    from segp_ext import predict
    from segp_ext.data.digits import digits

    collection = digits()
    Image.fromarray(collection.opener(collection.test[0][0])[0]).save(tmp_path / "zero.png")
    assert predict.main([str(finished), str(tmp_path / "zero.png"), "--topk=2", "--path=visual"]) == 0
    line = capsys.readouterr().out
    assert "zero.png: 0 " in line and line.count("%") == 2
    assert predict.main([str(tmp_path), str(tmp_path / "zero.png")]) == 2
    assert "no checkpoint at" in capsys.readouterr().err
    assert predict.main([str(finished), str(tmp_path / "gone.png")]) == 2
    assert "gone.png" in capsys.readouterr().err


def test_a_folder_of_images(tmp_path, capsys):
    for part, count in (("train", 4), ("test", 2)):
        for index, name in enumerate(("red", "green", "blue", "grey")):
            (tmp_path / "[photos]" / part / name).mkdir(parents=True)
            for image in range(count):
                pixels = np.random.RandomState(image).randint(0, 60, (20, 24, 3)).astype(np.uint8)
                pixels[..., index % 3] += 60 * index
                Image.fromarray(pixels).save(tmp_path / "[photos]" / part / name / f"{image}.jpg")
    arguments = ["--data.root", str(tmp_path / "[photos]"), "--data.classes_per_task=2", "--anchors.seeds_per_class=4"]
    before = sorted((tmp_path / "[photos]").rglob("*"))
    assert run(tmp_path, *arguments, "--held_out=[digits]") == 0
    assert sorted((tmp_path / "[photos]").rglob("*")) == before  # it may stand on a disk that is only read
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert result["protocol"]["data"] == "[photos]" and result["status"] == "finished"
    assert list(result["retention"]) == ["digits"] and len(result["retention"]["digits"]) == 3
    assert "retention.png" in result["plots"] and (tmp_path / "run/plots/retention.png").is_file()
    said = "Zero-shot accuracy on digits (never trained on), in percent: "
    assert said in capsys.readouterr().out and said in (tmp_path / "run/summary.md").read_text()
    assert result["retention"]["digits"][0] > 0.3  # the built-in model knows digits, here in another prompt


@pytest.mark.slow
def test_a_held_out_set_that_the_model_cannot_tell_apart_is_said(tmp_path, capsys):
    """Noise in folders of numbers: one line at the start, one in the summary; a run goes on all the same."""
    for name in ("00", "01", "02", "03"):
        for part in ("train", "test"):
            (tmp_path / "signs" / part / name).mkdir(parents=True)
            for image in range(4):
                pixels = np.random.RandomState(image).randint(0, 255, (8, 8, 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path / f"signs/{part}/{name}/{image}.png")
    assert run(tmp_path, f"--held_out=[{tmp_path / 'signs'}, digits]") == 0
    said = capsys.readouterr().out
    result = json.loads((tmp_path / "run/result.json").read_text())
    accuracy = result["retention"]["signs"][0]
    line = f"note: {percent(accuracy)} % on signs before the first task is within noise of guessing among its 4 classes (25.0 %)"
    start, _, end = said.partition("task 1/2")
    assert start.count(line) == end.count(line) == 1 and line in (tmp_path / "run/summary.md").read_text()
    assert "to it these names of signs mean nothing at first: 0" in start
    assert said.count("within noise of guessing") == 2 and "% on digits" not in said  # which the model knows


@pytest.mark.slow
def test_tasks_of_one_class_have_no_forward_transfer(tmp_path, capsys):
    arguments = ["--data.classes_per_task=1", "--data.max_images_per_class=4", "--method=zero-shot"]
    assert train.main([*arguments, f"--run.directory={tmp_path}", "--run.name=run"]) == 0
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert {scores["fwt"] for scores in result["scores"].values()} == {None}
    assert {value for scores in result["scores"].values() for value in scores["next_task"]} == {None}
    header, _, *rows = capsys.readouterr().out.partition("A1")[2].partition("\n\n")[0].splitlines()
    assert header.split()[-1] == "FWT" and rows and {row.split()[-1] for row in rows} == {"–"}


@pytest.mark.slow
def test_vit_b_16_learns_two_tasks_of_a_cifar100_archive(tmp_path):
    """The real architecture at its real size, weights random, through the paper's protocol but for what is made small here."""
    archive = cifar100(tmp_path, per_class=(2, 1), classes=4)
    arguments = ["--config=cifar100", f"--data.root={archive}", "--data.order=null", "--data.classes_per_task=2",
                 "--model.pretrained=null", "--training.epochs=1", "--training.batch_size=4", "--anchors.steps=1",
                 "--anchors.seeds_per_class=2", "--distillation.batch_size=2"]  # fmt: skip
    assert train.main([*arguments, f"--run.directory={tmp_path}", "--run.name=run"]) == 0
    result = json.loads((tmp_path / "run/result.json").read_text())
    facts = result["protocol"]
    assert result["status"] == "finished" and facts["id"].startswith("segp-cifar100+changed-")
    assert facts["changed"] == ["data.order", "data.classes_per_task", "model.pretrained"]
    assert facts["layout"].startswith("CIFAR100") and facts["transform"]["image_size"] == 224
    assert facts["weights"]["name"] == "ViT-B-16-quickgelu" and len(facts["weights"]["hash"]) == 64
    assert facts["tasks"] == [["thing 00", "thing 01"], ["thing 02", "thing 03"]]
    assert result["tasks"][1]["anchors"] == 4 and result["tasks"][1]["steps"] == 1
    assert set(result["tasks"][1]["losses"]) == {"classification", "acgd", "tsgr"}
    learner = SeGPCL.load(tmp_path / "run/checkpoints/task-002")
    assert (
        sum(p.numel() for p in learner.backbone.trained_parameters()) == 3_440_640
    )  # rank 32, B alone, as the paper counts


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
    assert run(tmp_path, *arguments) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_an_interrupt_leaves_a_directory_that_says_what_was_done(tmp_path, monkeypatch, capsys):
    original = SeGPCL.learn_task

    def second_is_interrupted(self, dataset, names, kept=None):
        if len(self.task_sizes) == 1 and self.config.training.epochs:
            raise KeyboardInterrupt
        return original(self, dataset, names, kept)

    monkeypatch.setattr(SeGPCL, "learn_task", second_is_interrupted)
    assert run(tmp_path) == 130
    assert f"--resume {tmp_path / 'run'}" in capsys.readouterr().err
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert result["status"] == "interrupted" and "after 1 of 2 tasks" in result["message"]
    assert (
        len(result["scores"]["segp (text)"]["A"]) == 1
        and (tmp_path / "run/checkpoints/task-001/learner.json").is_file()
    )
    summary = (tmp_path / "run/summary.md").read_text()
    assert "Status: interrupted" in summary and "not learnt" in summary


def test_a_gpu_whose_memory_runs_out_says_what_to_lower(tmp_path, monkeypatch, capsys):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("segp_ext.method.losses.TaskLosses.of_samples", full)
    assert run(tmp_path) == 2
    message = capsys.readouterr().err
    assert "memory ran out in phase training; lower training.prompts_per_pass, or raise training.accumulate" in message
    assert f"--resume {tmp_path / 'run'}" in message


@pytest.fixture
def stopped(tmp_path, monkeypatch):
    """A run that was interrupted in its second task, and what makes it go on."""
    original = SeGPCL.learn_task

    def second_is_interrupted(self, dataset, names, kept=None):
        if len(self.task_sizes) == 1 and self.config.training.epochs:
            raise KeyboardInterrupt
        return original(self, dataset, names, kept)

    monkeypatch.setattr(SeGPCL, "learn_task", second_is_interrupted)
    assert run(tmp_path) == 130
    monkeypatch.undo()
    return tmp_path / "run"


def test_a_stopped_run_goes_on_to_the_same_numbers(finished, stopped, capsys):
    """Killed runs are for tests/faults; here is what is said, and what is kept."""
    assert train.main(["--resume", str(stopped), "--run.keep_checkpoints=1"]) == 0
    assert "going on after task 1" in capsys.readouterr().out
    ours, theirs = (json.loads((path / "result.json").read_text()) for path in (stopped, finished))
    assert ours["scores"] == theirs["scores"] and ours["status"] == "finished"
    assert [(r["after"], r["on"]) for r in ours["resumed"]] == [(1, ours["device"])] and theirs["resumed"] == []
    assert [path.name for path in run_directory.saved_tasks(stopped)] == [
        "task-002"
    ]  # of task 0 and 1, none is kept any more
    assert train.main(["--resume", str(stopped)]) == 0  # a finished one shows its table again
    assert "segp (dual)" in capsys.readouterr().out


def change_settings(run, change):
    """Changes the settings in a run's config.yaml."""
    settings = yaml.safe_load((run / "config.yaml").read_text())
    change(settings)
    (run / "config.yaml").write_text(yaml.safe_dump(settings))


@pytest.mark.slow
def test_global_rows_are_not_switched_off_on_the_way(stopped, capsys):
    with pytest.raises(SystemExit):
        train.main(["--resume", str(stopped), "--data.evaluate_global=false"])
    assert "got --data.evaluate_global besides" in capsys.readouterr().err
    change_settings(stopped, lambda settings: settings["data"].update(evaluate_global=False))
    assert train.main(["--resume", str(stopped)]) == 2
    assert "these changed: data.evaluate_global" in capsys.readouterr().err


@pytest.mark.slow
def test_all_tasks_may_be_learnt_at_once_by_any_method(tmp_path):
    """The frozen rows beside it learn task after task."""
    assert run(tmp_path, "--training.joint", "--anchors.steps=1") == 0
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert result["settings"]["training"]["joint"] is True and len(result["scores"]["frozen prototypes"]["A"]) == 2


@pytest.mark.slow
def test_without_global_rows(finished, tmp_path):
    assert run(tmp_path, "--data.evaluate_global=false") == 0
    ours, theirs = (json.loads((path / "result.json").read_text()) for path in (tmp_path / "run", finished))
    for name, scores in theirs["scores"].items():
        assert ours["scores"][name] == {key: value for key, value in scores.items() if "global" not in key}
    assert not (tmp_path / "run/plots/global.png").exists()
    assert "Global" not in (tmp_path / "run/summary.md").read_text().replace("data.evaluate_global", "")


@pytest.mark.slow
def test_a_run_of_the_same_settings_is_offered(stopped, capsys):
    again = [*FAST, f"--run.directory={stopped.parent}", "--run.name=other"]
    assert train.main([*again, "--seed=1"]) == 0 and "goes on with it" not in capsys.readouterr().out
    assert train.main([*again[:-1], "--run.name=third"]) == 0
    said = capsys.readouterr().out
    assert (
        f"note: {stopped} has the same settings and did not end (Interrupted after 1 of 2 tasks); --resume {stopped}"
        in said
    )


def test_a_run_in_use_is_refused(stopped, capsys):
    held = run_directory.RunDirectory.reopen(stopped)
    assert train.main(["--resume", str(stopped)]) == 2
    assert f"{stopped} is in use by process {os.getpid()} on " in capsys.readouterr().err
    held.release()


def test_a_checkpoint_that_is_not_where_it_was_written_is_not_taken(finished, tmp_path):
    """The newest is damaged, the next one is a later one's copy, the third has its result from elsewhere; so the oldest is taken."""
    run = tmp_path / "run"
    shutil.copytree(finished, run, symlinks=True)
    checkpoints = run / "checkpoints"
    assert sorted(path.name for path in run_directory.saved_tasks(run)) == ["task-000", "task-001", "task-002"]
    assert (checkpoints / "latest").readlink() == Path("task-002")
    shutil.copytree(checkpoints / "task-002", checkpoints / "task-005")
    (checkpoints / "task-002/learner.safetensors").write_bytes(b"")
    sums = (checkpoints / "task-001/SHA256SUMS").read_text().splitlines(keepends=True)
    (checkpoints / "task-001/SHA256SUMS").write_text("".join(line for line in sums if not line.endswith("run.json\n")))
    held = run_directory.RunDirectory.reopen(run)
    with pytest.warns(RuntimeWarning) as said:
        saved = held.load()
    held.release()
    reasons = [str(warning.message) for warning in said]
    assert "task-005 holds a learner after 2 tasks: was it moved?" in reasons[0] and "is damaged" in reasons[1]
    assert "task-001 is a learner, but not a run's: run.json is no part of it" in reasons[2] and len(reasons) == 3
    assert saved.learner.task_sizes == [] and (checkpoints / "latest").readlink() == Path("task-000")


@pytest.mark.slow
def test_a_run_whose_weights_changed_is_refused(stopped, monkeypatch, capsys):
    monkeypatch.setattr("segp_ext.clip.backbone.Backbone.weights_hash", lambda self: "other")
    assert train.main(["--resume", str(stopped)]) == 2
    assert (
        "glyph with its own weights is not the model it was trained on; the weights differ" in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("section", "name", "value", "message"),
    [
        ("training", "epochs", 3, "cannot go on: since its start these changed: training.epochs"),
        ("data", "max_images_per_class", 5, "these changed: split_hash"),
    ],
)
def test_a_run_whose_settings_changed_is_refused(stopped, section, name, value, message, capsys):
    settings = yaml.safe_load((stopped / "config.yaml").read_text())
    settings[section][name] = value
    (stopped / "config.yaml").write_text(yaml.safe_dump(settings))
    before = (stopped / "result.json").read_bytes()
    assert train.main(["--resume", str(stopped)]) == 2
    assert message in capsys.readouterr().err and (stopped / "result.json").read_bytes() == before


def test_a_run_of_the_earlier_method_is_not_resumed(finished, tmp_path, capsys):
    shutil.copytree(finished, tmp_path / "run", symlinks=True)
    result = json.loads((tmp_path / "run/result.json").read_text())
    result["versions"]["segp_ext"] = "0.1.0"
    (tmp_path / "run/result.json").write_text(json.dumps(result))
    for option, place in (("--resume", "run"), ("--config", "run/config.yaml")):
        with pytest.raises(SystemExit) as stopped:
            train.main([option, str(tmp_path / place)])
        assert stopped.value.code == 2
        assert f"{tmp_path / 'run'} was made by segp_ext 0.1.0, whose method differed" in capsys.readouterr().err
    (tmp_path / "run/result.json").unlink()
    for file in (tmp_path / "run/checkpoints").glob("task-*/learner.json"):
        file.write_text(json.dumps({**json.loads(file.read_text()), "format": 3}))
    with pytest.raises(SystemExit):
        train.main(["--resume", str(tmp_path / "run")])
    assert "was made by segp_ext 0.1, whose method differed" in capsys.readouterr().err


def test_what_resume_does_not_take_is_named(stopped, tmp_path, capsys):
    for arguments, message in [
        (["--resume", str(stopped), "--seed", "3"], "--resume takes the run's own settings; got --seed besides"),
        (["--resume", str(tmp_path / "nowhere")], "--resume: no run in"),
    ]:
        with pytest.raises(SystemExit) as end:
            train.main(arguments)
        assert end.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.slow
def test_a_terminated_run_says_how_to_go_on(tmp_path):
    command = [sys.executable, "-m", "segp_ext.train", *FAST, "--training.epochs=500"]
    process = subprocess.Popen(
        [*command, f"--run.directory={tmp_path}", "--run.name=run"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "trained parameters" in line:
            break
    process.terminate()
    _, errors = process.communicate(timeout=1800)
    assert process.returncode == 143 and f"--resume {tmp_path / 'run'}" in errors and "Traceback" not in errors
    assert json.loads((tmp_path / "run/result.json").read_text())["status"] == "interrupted"


@pytest.mark.slow
def test_an_interrupt_while_plotting_keeps_every_result(tmp_path, monkeypatch):
    from segp_ext.report import run_report as report

    def interrupted(directory, result):
        raise KeyboardInterrupt

    monkeypatch.setattr(report, "plot", interrupted)
    assert run(tmp_path) == 130
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert result["status"] == "interrupted" and "after 2 of 2 tasks" in result["message"]
    assert len(result["scores"]["segp (dual)"]["A"]) == 2


def test_runs_started_in_the_same_second_get_folders_of_their_own(tmp_path, monkeypatch):
    class Noon(datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 11, 22, 12)

    monkeypatch.setattr(run_directory, "datetime", Noon)
    config = command_line.parse([f"--run.directory={tmp_path}"])
    made = [run_directory.RunDirectory.create(config, "digits").path.name for _ in range(3)]
    assert made == ["digits-segp-20261122-120000", "digits-segp-20261122-120000-2", "digits-segp-20261122-120000-3"]


def test_a_taken_run_name_is_refused(finished, capsys):
    assert train.main([*FAST, f"--run.directory={finished.parent}", "--run.name=run"]) == 2
    message = capsys.readouterr().err
    assert "holds a run already" in message and f"--resume {finished}" in message


ODD = {  # what the command stands behind, flags of Python, variables
    "another hash seed": ([], [], {"PYTHONHASHSEED": "12345"}),
    "every warning an error": ([], ["-W", "error"], {}),
    "few open files": (["sh", "-c", 'ulimit -n 40; exec "$@"', "sh"], [], {}),
    "no place for plot settings": ([], [], {"MPLCONFIGDIR": "datasets.py/below"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("condition", ODD)
def test_the_same_numbers_under_odd_conditions(condition, finished, tmp_path):
    begin, flags, variables = ODD[condition]
    (tmp_path / "datasets.py").write_text("raise SystemExit('a file of the present folder was imported')\n")
    command = [*begin, sys.executable, *flags, "-m", "segp_ext.train", *FAST, "--run.directory=[odd]", "--run.name=run"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **variables}, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    results = [json.loads((folder / "result.json").read_text()) for folder in (finished, tmp_path / "[odd]/run")]
    assert results[0]["scores"] == results[1]["scores"]


def test_results_that_cannot_be_written_are_said_before_anything_is_learnt(tmp_path, monkeypatch, capsys):
    def refuse(*given, **named):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(tmp_path / "results"))

    monkeypatch.setattr(Path, "mkdir", refuse)
    monkeypatch.setattr(SeGPCL, "learn_task", lambda *given: pytest.fail("it learnt"))
    assert train.main([*FAST, f"--run.directory={tmp_path / 'results'}"]) == 2
    said = capsys.readouterr().err
    assert "Read-only file system" in said and str(tmp_path / "results") in said
