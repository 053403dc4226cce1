"""Jobs of a comparison: their settings and results, the processes that run them, and the devices that they share."""

import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import yaml
from made_results import made, write

from segp_ext.run import jobs
from segp_ext.run.jobs import Job, execute_jobs, usable_devices
from segp_ext.run.rows import Row


def test_a_seed_takes_its_place_in_settings(tmp_path):
    given = ["--data.root=scenes/{seed}/scene", "--held_out", "[scenes/{seed}/clean]", "--data.order=null"]
    job = Job.of(Row("lora"), 7, tmp_path, given, 1)
    assert job.settings["data"]["root"] == "scenes/7/scene" and job.settings["held_out"] == ["scenes/7/clean"]
    assert job.settings["data"]["order"] is None and job.settings["seed"] == 7
    assert Job.of(Row("lora"), 7, tmp_path, given[:-1], 1).settings["data"]["order"] == 7
    assert Job.of(Row("lora"), 7, tmp_path, ["--data.order=3"], 1).settings["data"]["order"] == 3
    assert Job.of(Row("lora"), 7, tmp_path, ["--data", "{order: 3}"], 1).settings["data"]["order"] == 3
    job = Job.of(Row("lora data.root=scenes/{seed}"), 7, tmp_path, [], 1)
    assert job.settings["data"]["root"] == "scenes/7"


def made_folder(tmp_path, **settings):
    """A finished run of lora, and the arguments that it came from."""
    given = [f"--{name.replace('__', '.')}={value}" for name, value in settings.items()]
    job = Job.of(Row("lora"), 1, tmp_path, given, 1)
    write(job.folder, made(0.5, 0.1))
    (job.folder / "config.yaml").write_text(yaml.safe_dump(job.settings))
    return job


def test_a_run_on_other_data_or_weights_is_not_taken(tmp_path):
    there = {"data__root": "a", "model__pretrained": "openai"}
    assert made_folder(tmp_path, **there).result() is not None
    for change, name in (({"data__root": "b"}, "data.root"), ({"model__pretrained": "laion"}, "model.pretrained")):
        given = [f"--{key.replace('__', '.')}={value}" for key, value in (there | change).items()]
        with pytest.raises(ValueError, match=f"holds a run with {name} "):
            Job.of(Row("lora"), 1, tmp_path, given, 1).result()


@pytest.mark.parametrize("content", ["[]", '{"status": "finished"}', "{"])
def test_half_a_result_is_none(content, tmp_path):
    job = made_folder(tmp_path)
    (job.folder / "result.json").write_text(content)
    assert job.result() is None


def test_a_run_of_the_earlier_method_is_named(tmp_path):
    job = made_folder(tmp_path)
    result = json.loads((job.folder / "result.json").read_text())
    (job.folder / "result.json").write_text(json.dumps({**result, "versions": {"segp_ext": "0.1.0"}}))
    with pytest.raises(
        ValueError, match=r"remove .*lora-1, or choose another --out: .*lora-1 was made by segp_ext 0.1.0, whose"
    ):
        job.result()


def test_an_unreadable_run_is_named(tmp_path):
    job = made_folder(tmp_path)
    (job.folder / "config.yaml").write_text("a: [")
    with pytest.raises(ValueError, match=r"lora-1.config.yaml cannot be read; remove .*lora-1"):
        job.result()


def test_what_a_run_may_be_resumed_with_is_passed_on_and_its_last_words_are_its_own(tmp_path, monkeypatch):
    job = made_folder(tmp_path, anchors__batch_size=16, data__root="a")
    job.log.write_text("error: an old failure\n")
    called = {}

    def run(command, stdout, env, **_):
        called.update(command=command, env=env)
        stdout.write("Killed\n")
        stdout.flush()
        return subprocess.CompletedProcess(command, -9)

    monkeypatch.setattr(subprocess, "run", run)
    assert job.execute("3") == "exit status -9: Killed"
    assert called["env"]["CUDA_VISIBLE_DEVICES"] == "3"
    resumed = ["--resume", str(job.folder), "--anchors.batch_size=16", "--run.threads=1"]
    program, folder, *settings = called["command"][3:]
    assert [program, folder, *sorted(settings)] == resumed


def test_runs_get_the_devices_that_may_be_used(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-5")
    assert usable_devices() == ["2", "GPU-5"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert usable_devices() == ["0", "1"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert usable_devices() == [None]


def test_nothing_begins_after_an_interrupt(tmp_path, monkeypatch):
    begun, stopped, shutdown = [], threading.Event(), ThreadPoolExecutor.shutdown

    def execute(job, device):
        begun.append(job.seed)
        assert len(begun) == 1 or stopped.wait(1800)  # the second one is at work when the interrupt comes
        return "failed"

    def interrupted(futures, *_):
        next(futures)
        raise KeyboardInterrupt

    def stop(pool, **how):
        shutdown(pool, **{**how, "wait": False})
        stopped.set()
        shutdown(pool, **how)

    monkeypatch.setattr(ThreadPoolExecutor, "shutdown", stop)
    monkeypatch.setattr(Job, "execute", execute)
    monkeypatch.setattr(jobs, "progress", interrupted)
    listed = [Job.of(Row("lora"), seed, tmp_path, [], 1) for seed in range(1, 7)]
    with pytest.raises(KeyboardInterrupt):
        execute_jobs(listed, [None], 1, {})
    assert len(begun) <= 2


def test_what_is_said_of_runs_stands_above_their_bar(tmp_path, monkeypatch):
    """It goes through `say`, which test_progress has on a terminal."""
    said = []
    monkeypatch.setattr(jobs, "say", lambda line, *stream: said.append((line, *stream)))
    monkeypatch.setattr(Job, "execute", lambda job, device: "" if job.seed == 1 else "it broke")
    monkeypatch.setattr(Job, "result", lambda job: made(0.5, 0.1))
    listed = [Job.of(Row("lora"), seed, tmp_path, [], 1) for seed in (1, 2)]
    execute_jobs(listed, [None], 1, {})
    said.sort(key=lambda line: line[0])  # what ended at once comes in any order
    assert said == [("lora, seed 1: Last text 50.0, visual 50.0, dual 50.0",), ("lora, seed 2: it broke", sys.stderr)]


def test_all_of_trains_settings_are_taken(tmp_path):
    row = Row("segp anchors.steps=3")
    job = Job.of(row, 4, tmp_path, ["--config", "digits"], None)
    assert job.settings["anchors"]["steps"] == 3 and job.settings["seed"] == job.settings["data"]["order"] == 4
    fixed = Job.of(Row("segp data.order=9"), 4, tmp_path, [], None)
    assert fixed.settings["data"]["order"] == 9
    named = Job.of(row, 4, tmp_path, ["--protocol=segp-cub200", "--data.root=x"], None)
    assert named.settings["data"]["order"] == "cub200-rapf" and named.settings["seed"] == 4
