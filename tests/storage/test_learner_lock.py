"""Two processes that change one saved learner."""

import multiprocessing
import os
import subprocess
import sys
import threading

import pytest

from segp_ext.storage import learner_lock
from segp_ext.storage.learner_lock import held_alone

HOLDS = """
import sys, time
from pathlib import Path
from segp_ext.storage.learner_lock import held_alone
with held_alone(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(path):
    """A process that holds the learner at `path` until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_process_is_refused_until_the_first_ends(tmp_path):
    path = tmp_path / "saved"
    for end in ("close", "kill"):
        with holder(path) as first:
            said = f"another process changes {path}; try again when it has ended"
            with pytest.raises(FileExistsError, match=said), held_alone(path):
                pytest.fail("both hold it")
            with held_alone(tmp_path / "other"):
                pass
            first.kill() if end == "kill" else first.stdin.close()
            first.wait()
        with held_alone(path):
            assert [entry.name for entry in tmp_path.iterdir()] == [".saved.lock"]
        assert [*tmp_path.iterdir()] == []


def test_a_second_thread_and_a_link_are_refused_too(tmp_path):
    (tmp_path / "saved").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "saved")
    with (
        held_alone(tmp_path / "saved"),
        pytest.raises(FileExistsError, match="/saved; "),
        held_alone(tmp_path / "link"),
    ):
        pytest.fail("both hold it")


def test_a_file_within_the_path_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    for place in ("file/saved", "file/deep/saved"):
        with pytest.raises(NotADirectoryError, match="^no folder '.*' can be made, as a part of this path is a file$"):
            held_alone(tmp_path / place).__enter__()


def test_an_error_inside_gives_the_learner_free(tmp_path):
    with pytest.raises(KeyboardInterrupt), held_alone(tmp_path / "saved"):
        raise KeyboardInterrupt
    with held_alone(tmp_path / "saved"):
        pass


def test_a_file_that_was_removed_meanwhile_is_no_lock(tmp_path, monkeypatch):
    """One that opens the file before the holder removes it would hold a file that nobody else finds."""
    lock, opened = tmp_path / ".saved.lock", []
    there = learner_lock._is_there

    def removed_once(path, file):
        opened.append(file)
        if len(opened) == 1:
            path.unlink()
        return there(path, file)

    monkeypatch.setattr(learner_lock, "_is_there", removed_once)
    with held_alone(tmp_path / "saved"):
        assert len(opened) == 2 and opened[0].closed and lock.is_file()
        monkeypatch.undo()
        with pytest.raises(FileExistsError), held_alone(tmp_path / "saved"):
            pytest.fail("both hold it")


def test_no_two_threads_are_inside_at_a_time(tmp_path):
    inside, most, done = [0], [], []

    def work():
        while len(done) < 200:
            try:
                with held_alone(tmp_path / "saved"):
                    inside[0] += 1
                    most.append(inside[0])
                    os.stat(tmp_path)
                    inside[0] -= 1
                    done.append(1)
            except FileExistsError:
                pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(most) == {1}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_does_not_go_on_holding(tmp_path):
    with held_alone(tmp_path / "saved"):
        go = multiprocessing.get_context("fork").Event()
        child = multiprocessing.get_context("fork").Process(target=go.wait)
        child.start()
    try:
        with held_alone(tmp_path / "saved"):
            pass
    finally:
        go.set()
        child.join()


@pytest.mark.parametrize("error", [None, OSError(95, "Operation not supported")])
def test_where_there_are_no_locks_a_warning_says_so(tmp_path, monkeypatch, error):
    if error is None:
        monkeypatch.setattr(learner_lock, "fcntl", None)
    else:

        def unsupported(*_):
            raise error

        monkeypatch.setattr(learner_lock.fcntl, "flock", unsupported)
    inside = False
    said = "cannot be locked .*: no second process may change .*saved meanwhile"
    with pytest.warns(RuntimeWarning, match=said), held_alone(tmp_path / "saved"):
        inside = True
    assert inside and [*tmp_path.iterdir()] == []
