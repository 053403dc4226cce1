"""How much memory may be taken: what is free, within the limits of the control groups that the process is in."""

import psutil
import pytest
import torch

from segp_ext.config import LoadingConfig
from segp_ext.data.decoding import as_it_is
from segp_ext.data.images import Reader
from segp_ext.runtime import memory

GB = 10**9


@pytest.fixture(autouse=True)
def a_large_machine(monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 500 * GB}))


def group(root, folder, **values):
    place = root / "sys/fs/cgroup" / folder
    place.mkdir(parents=True, exist_ok=True)
    for name, value in values.items():
        (place / name.replace("__", ".")).write_text(f"{value}\n")


def member(root, text):
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(text)
    return memory.free_memory(root)


def test_without_limits_it_is_what_is_free(tmp_path):
    assert memory.free_memory(tmp_path) == 500 * GB
    group(tmp_path, "", memory__max="max", memory__current=GB)
    assert member(tmp_path, "0::/\n") == 500 * GB


def test_a_container_has_what_its_limit_leaves(tmp_path):
    """Its own group is the top one that it sees. Pages of files count as free."""
    group(tmp_path, "", memory__max=8 * GB, memory__current=6 * GB, memory__stat=f"anon 5\ninactive_file {GB}")
    assert member(tmp_path, "0::/\n") == 3 * GB


def test_a_batch_job_has_the_least_of_the_groups_around_it(tmp_path):
    group(tmp_path, "slurm/job_1", memory__max=20 * GB, memory__current=5 * GB)
    group(tmp_path, "slurm/job_1/step_0", memory__max="max", memory__current=5 * GB)
    assert member(tmp_path, "0::/slurm/job_1/step_0\n") == 15 * GB


def test_the_first_version_of_groups(tmp_path):
    group(
        tmp_path,
        "memory/docker/ab",
        memory__limit_in_bytes=4 * GB,
        memory__usage_in_bytes=GB,
        memory__stat="total_inactive_file 7",
    )
    assert member(tmp_path, "12:cpu,cpuacct:/docker/ab\n9:memory:/docker/ab\n1:name=systemd:/\n") == 3 * GB + 7


def test_nothing_is_left_above_the_limit(tmp_path):
    group(tmp_path, "", memory__max=GB, memory__current=2 * GB)
    assert member(tmp_path, "0::/\n") == 0


def test_images_are_kept_in_half_of_it(monkeypatch):
    monkeypatch.setattr(memory, "_left_in_groups", lambda root: [4 * GB])
    assert Reader(as_it_is, LoadingConfig(), torch.device("cpu")).memory == 2 * GB
