"""A run's folder: what belongs to it and what does not, who holds it, and which of its checkpoints are taken."""

import dataclasses
import errno
import json
import os
import shutil
from datetime import datetime
from pathlib import Path

import pytest
import torch
from small_run import FAST

from segp_ext import train
from segp_ext.config import RunConfig
from segp_ext.method.anchors import Anchors
from segp_ext.run import directory as run_directory
from segp_ext.run.command_line import parse
from segp_ext.run.directory import RunDirectory, saved_tasks, unfinished
from segp_ext.run.run import Run
from segp_ext.run.saved_learner import find_checkpoint
from segp_ext.runtime.processes import Processes
from segp_ext.storage import sealed
from segp_ext.storage.task_progress import TaskProgress


@pytest.fixture
def copy(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run", symlinks=True)
    return tmp_path / "run"


def named(folder, name):
    return dataclasses.replace(parse([]), run=RunConfig(name=name, directory=str(folder)))


def test_hidden_files_of_others_stay_and_half_written_ones_go(tmp_path, copy):
    for name in (".git", ".venv.old"):
        (copy / name).mkdir()
    for name in (".config.yaml.123", ".latest"):
        (copy / name).write_text("half")
    for name in (".task-003.new", ".learning-001.gone"):
        (copy / "checkpoints" / name).mkdir()
    held = RunDirectory.reopen(copy)
    held.release()
    assert {entry.name for entry in copy.glob(".*")} == {".git", ".venv.old"}
    assert not list((copy / "checkpoints").glob(".*"))
    (tmp_path / "other/.git").mkdir(parents=True)
    with pytest.raises(FileExistsError, match="other is not empty, and holds no run; choose another --run.name"):
        RunDirectory.create(named(tmp_path, "other"), "data")
    assert (tmp_path / "other/.git").is_dir()


def test_a_copy_that_followed_the_links_is_gone_on_with(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    latest = tmp_path / "run/checkpoints/latest"
    assert latest.is_dir() and not latest.is_symlink()
    held = RunDirectory.reopen(tmp_path / "run")
    assert len(held.load().learner.task_sizes) == 2 and latest.is_symlink()
    held.release()


def test_where_no_link_can_be_made_the_checkpoint_is_taken(copy, monkeypatch):
    def refuse(self, *_, **__):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    held = RunDirectory.reopen(copy)
    with pytest.warns(RuntimeWarning, match="latest could not be made to name task-002: .*not permitted"):
        assert len(held.load().learner.task_sizes) == 2
    held.release()


def test_a_disk_without_locks_is_said_and_worked_on(copy, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(run_directory.fcntl, "flock", refuse)
    with pytest.warns(
        RuntimeWarning, match="run.lock cannot be locked on this disk .No locks available.: no second process"
    ):
        held = RunDirectory.reopen(copy)
    assert len(held.load().learner.task_sizes) == 2
    held.release()


def test_a_long_name_of_a_data_set_is_cut(tmp_path):
    held = RunDirectory.create(parse([f"--run.directory={tmp_path}"]), "長" * 85)
    assert held.path.is_dir() and held.path.name.startswith("長" * 50 + "-segp-")
    held.release()


def test_a_folder_that_was_replaced_is_not_written_to(copy):
    held = RunDirectory.reopen(copy)
    held.check_held()
    shutil.rmtree(copy)
    with pytest.raises(FileNotFoundError, match="was removed or replaced while the run went on"):
        held.check_held()
    other = RunDirectory(copy)
    with pytest.raises(FileNotFoundError, match="removed or replaced"):
        held.check_held()
    for one in (held, other):
        one.release()


def test_a_child_does_not_go_on_holding_the_folder(copy):
    held = RunDirectory.reopen(copy)
    reading, writing = os.pipe()
    begun, begins = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writing)
        os.write(begins, b"x")
        os.read(reading, 1)  # until the parent is done
        os._exit(0)
    os.read(begun, 1)
    held._lock.close()  # as the system does when the process dies
    RunDirectory.reopen(copy).release()
    os.close(writing)
    os.waitpid(child, 0)


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r.clear(),
        lambda r: r.update(protocol=[]),
        lambda r: r.pop("scores"),
        lambda r: r.update(resumed=3),
        lambda r: r["scores"]["segp (text)"].update(A=[2.0, 2.0]),
        lambda r: r["scores"]["segp (text)"].update(A=[0.5]),
        lambda r: r.update(tasks=[]),
        lambda r: r["scores"]["segp (text)"].update(global_A=[2.0, 0.5, 0.5]),
        lambda r: r["scores"]["segp (text)"]["global_R"].pop(),
        lambda r: r["scores"]["segp (text)"]["global_R"][0].pop(),
        lambda r: r["scores"]["segp (text)"].update(global_R=3),
    ],
)
def test_a_result_that_is_none_is_not_gone_on_with(copy, change):
    path = copy / "checkpoints/task-002"
    files = {file.name: file.read_bytes() for file in path.iterdir() if file.name != sealed.SUMS}
    result = json.loads(files["run.json"])
    change(result)
    sealed.seal(path, {**files, "run.json": json.dumps(result).encode()})
    held = RunDirectory.reopen(copy)
    with pytest.warns(
        RuntimeWarning,
        match="task-002/run.json is no result of (a run after 2 tasks|format 1): .*the one before it is tried",
    ):
        assert len(held.load().learner.task_sizes) == 1
    held.release()


def test_prediction_takes_the_newest_whole_checkpoint(copy, monkeypatch):
    assert find_checkpoint(copy) == copy / "checkpoints/task-002"
    (copy / "checkpoints/task-002/learner.safetensors").write_bytes(b"")
    (copy / "checkpoints/task-010").write_text("not a folder")
    with pytest.warns(RuntimeWarning, match="the one before it is taken"):
        assert find_checkpoint(copy) == copy / "checkpoints/task-001"
    monkeypatch.chdir(copy)
    with pytest.warns(RuntimeWarning):
        assert find_checkpoint(Path()).name == "task-001"
    monkeypatch.chdir(copy / "checkpoints/task-001")
    assert find_checkpoint(Path()) == copy / "checkpoints/task-001"


def test_other_runs_that_cannot_be_read_are_passed_over(tmp_path):
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd/config.yaml").write_text("[" * 20_000)
    (tmp_path / "odd/result.json").write_text("{}")
    assert list(unfinished(tmp_path, {})) == []


def test_what_was_kept_of_another_start_is_left_out(tmp_path):
    def progress(start):
        return TaskProgress(tmp_path / "learning-001", 5, Processes(), torch.device("cpu"), start)

    anchors = Anchors.of({"embedding": torch.ones(2, 3), "feature": torch.ones(2, 4)}, torch.device("cpu"))
    progress("task 1 after a").keep_anchors(anchors.tensors)
    progress("task 1 after a").keep(5, {"done": 5}, {"x": torch.ones(2)})
    assert len(progress("task 1 after a").load_anchors()["embedding"]) == 2
    assert progress("task 1 after a").load()[0] == {"done": 5}
    for read in ("load_anchors", "load"):
        with pytest.warns(RuntimeWarning, match="belongs to another task, or to another run; it is not used"):
            assert getattr(progress("task 1 after b"), read)() is None


def test_two_positions_are_kept_for_one_may_be_damaged(tmp_path):
    progress = TaskProgress(tmp_path / "learning-001", 5, Processes(), torch.device("cpu"))
    for step in (5, 10, 15):
        progress.keep(step, {"done": step}, {"x": torch.ones(2)})
    assert sorted(path.name for path in progress.folder.iterdir()) == ["step-00000010", "step-00000015"]
    (progress.folder / "step-00000015/training.safetensors").write_bytes(b"")
    with pytest.warns(RuntimeWarning, match="step-00000015.* is damaged.*; it is not used, and its work is done again"):
        assert progress.load()[0] == {"done": 10}


def test_a_run_leaves_out_what_is_swapped_in_from_another(finished, copy, tmp_path):
    """A run names the start of a task by the identity of its checkpoint."""
    run = Run(parse(["--config", str(copy / "config.yaml")]), copy)
    try:
        starts = [run._start(done) for done in (0, 1, 2)]
    finally:
        run.close()
    assert len({*starts}) == 3
    assert [path.name for path in saved_tasks(copy)] == ["task-002", "task-001", "task-000"]
    assert starts[1] == f"task 2 after {sealed.identity(finished / 'checkpoints/task-001')}"


def test_a_run_in_use_is_refused(stopped, capsys):
    held = RunDirectory.reopen(stopped)
    assert train.main(["--resume", str(stopped)]) == 2
    assert f"{stopped} is in use by process {os.getpid()} on " in capsys.readouterr().err
    held.release()


def test_a_checkpoint_that_is_not_where_it_was_written_is_not_taken(finished, tmp_path):
    """The newest is a copy of an earlier one, the next is damaged, the third lacks its result; so the oldest is taken."""
    run = tmp_path / "run"
    shutil.copytree(finished, run, symlinks=True)
    checkpoints = run / "checkpoints"
    assert sorted(path.name for path in saved_tasks(run)) == ["task-000", "task-001", "task-002"]
    assert (checkpoints / "latest").readlink() == Path("task-002")
    shutil.copytree(checkpoints / "task-002", checkpoints / "task-005")
    (checkpoints / "task-002/learner.safetensors").write_bytes(b"")
    sums = (checkpoints / "task-001/SHA256SUMS").read_text().splitlines(keepends=True)
    (checkpoints / "task-001/SHA256SUMS").write_text("".join(line for line in sums if not line.endswith("run.json\n")))
    held = RunDirectory.reopen(run)
    with pytest.warns(RuntimeWarning) as said:
        saved = held.load()
    held.release()
    reasons = [str(warning.message) for warning in said]
    assert "task-005 holds a learner after 2 tasks: was it moved?" in reasons[0] and "is damaged" in reasons[1]
    assert (
        "task-001 is a learner, but not of a run: its seal does not name run.json" in reasons[2] and len(reasons) == 3
    )
    assert saved.learner.task_sizes == [] and (checkpoints / "latest").readlink() == Path("task-000")


def test_runs_started_in_the_same_second_get_folders_of_their_own(tmp_path, monkeypatch):
    class Noon(datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 11, 22, 12)

    monkeypatch.setattr(run_directory, "datetime", Noon)
    config = parse([f"--run.directory={tmp_path}"])
    made = [RunDirectory.create(config, "digits").path.name for _ in range(3)]
    assert made == ["digits-segp-20261122-120000", "digits-segp-20261122-120000-2", "digits-segp-20261122-120000-3"]


def test_a_taken_run_name_is_refused(finished, capsys):
    assert train.main([*FAST, f"--run.directory={finished.parent}", "--run.name=run"]) == 2
    message = capsys.readouterr().err
    assert "holds a run already" in message and f"--resume {finished}" in message
