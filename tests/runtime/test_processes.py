"""Several processes against one: the same anchors, the same learner, and what happens when one of them dies."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from method.shared_work import KINDS, results
from safetensors.torch import load_file

from segp_ext.runtime import processes as module
from segp_ext.runtime.processes import Processes, cores, join, share_cores

TESTS = Path(__file__).parents[1]


def start(count: int, *command: str) -> list[subprocess.Popen]:
    """Starts `count` processes as a launcher would, without one that ends them all when one fails."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {
        "WORLD_SIZE": count,
        "LOCAL_WORLD_SIZE": count,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "OMP_NUM_THREADS": 1,
    }
    paths = os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    return [
        subprocess.Popen(
            [sys.executable, *command],
            env={
                **os.environ,
                "PYTHONPATH": paths,
                **{k: str(v) for k, v in common.items()},
                "RANK": str(r),
                "LOCAL_RANK": str(r),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for r in range(count)
    ]


def finish(processes: list[subprocess.Popen]) -> list[tuple[int, str]]:
    """Exit status and output of each."""
    ends = []
    try:
        for process in processes:
            output, _ = process.communicate(
                timeout=1800
            )  # a process that hangs; how fast the machine is decides nothing
            ends.append((process.returncode, output))
    finally:
        for process in processes:
            process.kill()
    return ends


@pytest.fixture(scope="module")
def alone():
    threads = torch.get_num_threads()
    yield results(Processes())
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    folder = tmp_path_factory.mktemp("together")
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setenv("TMPDIR", str(folder))
    processes = start(3, str(TESTS / "method/shared_work.py"), str(folder))
    monkeypatch.undo()
    for status, output in finish(processes):
        assert status == 0, output
    return [load_file(folder / f"{rank}.safetensors") for rank in range(3)]


@pytest.mark.slow
def test_anchors_are_those_of_one_process_to_the_bit(alone, together):
    for found in together:
        for name in (n for n in alone if n.startswith((*KINDS, "seeds"))):
            assert torch.equal(found[name], alone[name]), name
    assert len({tuple(row) for row in alone["seeds among ties"].tolist()}) == 3
    assert alone["seeds among ties"][0].tolist() == [0, 3, 6, 9, 12, 15, 18, 1, 2]  # ties: the earlier image first


@pytest.mark.slow
def test_anchors_in_a_file_are_those_in_memory(alone, together, tmp_path_factory):
    assert not list(
        tmp_path_factory.getbasetemp().rglob("segp-anchors-*-*")
    )  # nothing is left, by one process or several
    for kind in KINDS:
        for part in ("pixels", "embedding", "feature"):
            if f"{kind} memory {part}" in alone:
                assert torch.equal(alone[f"{kind} file {part}"], alone[f"{kind} memory {part}"])


@pytest.mark.slow
def test_every_process_learns_the_same_as_one(alone, together):
    for found in together:
        for name in (n for n in alone if n.startswith(("adamw", "sgd", "few classes"))):
            assert torch.equal(found[name], together[0][name]), name  # to the bit among themselves
    for name in (n for n in alone if n.startswith(("adamw 0", "sgd", "few classes"))):
        torch.testing.assert_close(together[0][name], alone[name], rtol=0, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.slow
def test_a_run_on_two_processes(tmp_path):
    fast = ["--training.epochs=2", "--anchors.steps=3", "--data.max_images_per_class=60", "--data.classes_per_task=4"]
    command = ["segp_ext.train", f"--run.directory={tmp_path}", "--run.keep_checkpoints=null", *fast]
    finish([subprocess.Popen([sys.executable, "-m", *command, "--run.name=one"], stdout=subprocess.PIPE, text=True)])
    launched = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node=2",
        "-m",
        *command,
        "--run.name=two",
    ]
    ((status, output),) = finish([subprocess.Popen(launched, stdout=subprocess.PIPE, text=True)])
    assert status == 0 and output.count("task 3/3") == 1  # only the main process prints
    one, two = (json.loads((tmp_path / name / "result.json").read_text()) for name in ("one", "two"))
    assert (one["processes"], two["processes"]) == (1, 2) and two["status"] == "finished"
    assert two["threads"] == (max(1, cores() // 2) if os.environ.get("OMP_NUM_THREADS", "1") == "1" else two["threads"])
    for row, scores in one["scores"].items():
        for metric in ("avg", "last", "forgetting", "bwt"):
            assert two["scores"][row][metric] == pytest.approx(scores[metric], abs=0.005), (row, metric)
        assert two["scores"][row].get("global_A") == pytest.approx(scores.get("global_A"), abs=0.005), row
        counts = two["scores"][row]["confusion"]  # of both processes' images
        right = sum(count for true, predicted, count in counts if true == predicted)
        assert right / sum(count for *_, count in counts) == two["scores"][row]["last"], row
    first = "checkpoints/task-001/adapter_model.safetensors"
    ours, theirs = load_file(tmp_path / "one" / first), load_file(tmp_path / "two" / first)
    for name, tensor in ours.items():
        torch.testing.assert_close(theirs[name], tensor, rtol=0, atol=1e-4)


DYING = """
import os, sys
from segp_ext import train
from segp_ext.method.learner import SeGPCL
learn = SeGPCL.learn_task
def second_dies(self, images, names, *more, **named):
    if os.environ["RANK"] == "1" and self.config.training.epochs and len(self.task_sizes) == 1:
        os._exit(9)
    return learn(self, images, names, *more, **named)
SeGPCL.learn_task = second_dies
sys.exit(train.main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_process_that_dies_is_named_and_what_was_learnt_stays(tmp_path):
    fast = ["--data.max_images_per_class=6", "--training.epochs=1", "--data.classes_per_task=5", "--anchors.steps=2"]
    ends = finish(start(2, "-c", DYING, *fast, f"--run.directory={tmp_path}", "--run.name=run", "--model.device=cpu"))
    assert [status for status, _ in ends] == [2, 9]
    assert "error: process 1 of 2 lost another one: it stopped or cannot be reached" in ends[0][1]
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert result["status"] == "failed" and "after 1 of 2 tasks" in result["message"]
    assert (tmp_path / "run/checkpoints/task-001/learner.json").is_file()


@pytest.mark.slow
def test_a_launcher_that_ends_the_others_leaves_a_run_that_says_so(tmp_path):
    """torchrun ends all processes when one dies; the main one still says in the run's folder how far it came."""
    (tmp_path / "dying.py").write_text(DYING)
    command = [
        str(tmp_path / "dying.py"),
        "--data.max_images_per_class=20",
        "--training.epochs=60",
        "--model.device=cpu",
    ]
    launched = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", *command]
    launched += [f"--run.directory={tmp_path}", "--run.name=run"]
    ((status, _),) = finish([subprocess.Popen(launched, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)])
    assert status != 0
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert result["status"] in ("interrupted", "failed") and "after 1 of 5 tasks" in result["message"]


@pytest.mark.slow
def test_processes_that_see_different_data_are_refused(tmp_path):
    script = "import os, sys; from segp_ext import train; sys.exit(train.main([*sys.argv[1:], '--data.order', os.environ['RANK']]))"
    for status, output in finish(start(2, "-c", script, f"--run.directory={tmp_path}")):
        assert status == 2 and "must see the same data, settings and weights" in output, output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("local", "asked", "variable", "torchrun", "threads"),
    [
        (1, None, None, False, None),  # torch's own choice
        (1, 5, "3", False, 5),
        (2, None, None, False, 6),
        (5, None, None, False, 2),
        (20, None, None, False, 1),
        (2, 5, None, False, 5),
        (2, None, "3", False, None),
        (2, None, "1", False, None),
        (2, None, "1", True, 6),  # which it sets by itself
        (2, None, "3", True, None),
        (2, 1, "1", True, 1),
    ],
)
def test_processes_of_one_host_share_its_cores(local, asked, variable, torchrun, threads, monkeypatch):
    for name, value in (("OMP_NUM_THREADS", variable), ("TORCHELASTIC_RUN_ID", "x" if torchrun else None)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    said = []
    monkeypatch.setattr(module, "cores", lambda: 12)
    monkeypatch.setattr(torch, "set_num_threads", said.append)
    share_cores(Processes(0, 2 * local, 0, local), asked)
    assert said == ([] if threads is None else [threads])


def test_a_device_for_several_processes_must_leave_room(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(ValueError, match="model.device must be auto, cpu or cuda with 4 processes.*got 'cuda:1'"):
        join("cuda:1")


def test_an_empty_number_of_processes_is_none(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "")
    processes, device = join("cuda:1")
    assert (processes.count, device) == (1, "cuda:1")


def test_several_processes_without_a_launcher_ask_for_its_variables(monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(ValueError, match="MASTER_ADDR"):
        join("cpu")
