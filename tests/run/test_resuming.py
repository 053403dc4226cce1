"""Runs that stopped: what they go on with, what is said, and what refuses them."""

import json
import shutil

import pytest
import yaml
from small_run import FAST

from segp_ext import train
from segp_ext.report.result import RunResult
from segp_ext.run import directory as run_directory
from segp_ext.run.resuming import _changed


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


def test_a_run_that_is_older_than_a_setting_had_its_default(finished):
    before, now = (RunResult.read(finished / "result.json") for _ in range(2))
    del before.settings["extra_loss"]
    assert _changed(before, now) == []
    now.settings["extra_loss"]["weight"] = 2.0
    assert _changed(before, now) == ["extra_loss.weight"]


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
def test_a_run_of_the_same_settings_is_offered(stopped, capsys):
    again = [*FAST, f"--run.directory={stopped.parent}", "--run.name=other"]
    assert train.main([*again, "--seed=1"]) == 0 and "goes on with it" not in capsys.readouterr().out
    assert train.main([*again[:-1], "--run.name=third"]) == 0
    said = " ".join(capsys.readouterr().out.split())  # lines are wrapped, paths are not
    assert (
        f"note: a run of the same settings stopped: {stopped} (Interrupted after 1 of 2 tasks); --resume {stopped} goes on with it"
        in said
    )


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
