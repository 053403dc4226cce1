"""Files and folders that appear whole or not at all: what is flushed when, and what is left where a process dies or a rename fails."""

import errno
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import pytest

from segp_ext.storage import sealed

OLD, NEW = {"a.txt": b"old", "b.txt": b"old"}, {"a.txt": b"new"}


@pytest.fixture
def calls(monkeypatch):
    """What is flushed and renamed, in order, by name."""
    seen = []
    usual = {name: getattr(os, name) for name in ("fsync", "rename", "replace")}

    def fsync(handle):
        seen.append(("flush", Path(os.readlink(f"/proc/self/fd/{handle}")).name))
        usual["fsync"](handle)

    monkeypatch.setattr(os, "fsync", fsync)
    for name in ("rename", "replace"):

        def moved(source, target, *, name=name, **rest):
            seen.append(("rename", Path(source).name, Path(target).name))
            usual[name](source, target, **rest)

        monkeypatch.setattr(os, name, moved)
    return seen


def test_a_file_is_on_disk_before_it_takes_its_name(tmp_path, calls):
    sealed.write_atomically(tmp_path / "x", b"1")
    aside = f".x.{os.getpid()}"
    assert calls == [("flush", aside), ("rename", aside, "x"), ("flush", tmp_path.name)]


def test_a_folder_is_on_disk_before_it_takes_its_name_and_the_old_one_goes_last(tmp_path, calls, monkeypatch):
    path = tmp_path / "c"
    sealed.seal(path, OLD)
    calls.clear()
    usual = sealed.shutil.rmtree
    monkeypatch.setattr(
        sealed.shutil, "rmtree", lambda place, **rest: (calls.append(("remove", place.name)), usual(place, **rest))
    )
    sealed.seal(path, NEW)
    assert calls == [
        ("remove", ".c.new"),
        ("flush", "a.txt"), ("flush", "SHA256SUMS"), ("flush", ".c.new"),
        ("remove", ".c.old"), ("rename", "c", ".c.old"), ("rename", ".c.new", "c"), ("flush", tmp_path.name),
        ("remove", ".c.old"),
    ]  # fmt: skip


@pytest.mark.parametrize("rename", [1, 2])
def test_a_process_that_dies_at_a_rename_leaves_one_of_the_two(tmp_path, rename):
    path = tmp_path / "c"
    sealed.seal(path, OLD)
    child = os.fork()
    if child == 0:
        left, usual = rename, os.rename

        def dying(source, target):
            nonlocal left
            left -= 1
            if left == 0:
                os._exit(9)
            usual(source, target)

        os.rename = dying
        sealed.seal(path, NEW)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert path.exists() == (rename == 1)
    found = sealed.recovered(path)
    assert sealed.check_seal(found).keys() == OLD.keys() and (found / "a.txt").read_bytes() == b"old"
    sealed.seal(path, NEW)
    assert sealed.recovered(path) == path and sealed.check_seal(path).keys() == NEW.keys()
    assert [entry.name for entry in tmp_path.iterdir()] == ["c"]


def test_where_the_new_one_gets_no_name_the_old_one_is_put_back(tmp_path, monkeypatch):
    path = tmp_path / "c"
    sealed.seal(path, OLD)
    usual = os.rename

    def failing(source, target):
        if Path(source).name == ".c.new":
            raise OSError(28, "No space left on device")
        usual(source, target)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(OSError, match="No space left"):
        sealed.seal(path, NEW)
    assert sealed.check_seal(path).keys() == OLD.keys()
    assert [entry.name for entry in tmp_path.iterdir()] == ["c"]


def test_a_full_disk_names_the_file(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*\.c\.new/a\.txt'"):
        sealed.seal(tmp_path / "c", NEW)
    assert list(tmp_path.iterdir()) == []


def test_other_files_in_a_folder_stay(tmp_path):
    sealed.seal(tmp_path / "c", OLD)
    (tmp_path / "c/MODEL_CARD.md").write_text("mine")
    (tmp_path / "c/.git").mkdir()
    sealed.seal(tmp_path / "c", NEW)
    assert {entry.name for entry in (tmp_path / "c").iterdir()} == {"a.txt", "SHA256SUMS", "MODEL_CARD.md", ".git"}
    assert sealed.check_seal(tmp_path / "c").keys() == NEW.keys()


def test_a_link_to_a_folder_stays_one(tmp_path):
    (tmp_path / "link").symlink_to("real")
    for files in (OLD, NEW, OLD):
        sealed.seal(tmp_path / "link", files)
        assert (tmp_path / "link").is_symlink() and sealed.check_seal(tmp_path / "real").keys() == files.keys()
    assert {entry.name for entry in tmp_path.iterdir()} == {"link", "real"}


def test_threads_take_turns(tmp_path):
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(sealed.seal, tmp_path / "c", files) for files in [OLD, NEW] * 40]:
            done.result()
    assert sealed.check_seal(tmp_path / "c").keys() in (OLD.keys(), NEW.keys())


@pytest.mark.parametrize(("number", "matters"), [(errno.EINVAL, False), (errno.ENOTSUP, False), (errno.EIO, True)])
def test_a_disk_that_cannot_flush_folders_is_written_to(tmp_path, monkeypatch, number, matters):
    """Shares of Windows and some others; an error of the disk itself is one."""
    usual = os.fsync

    def fsync(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(number, os.strerror(number))
        usual(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="error") if matters else nullcontext():
        sealed.write_atomically(tmp_path / "x", b"1")
        sealed.seal(tmp_path / "folder", NEW)
    assert (tmp_path / "x").read_bytes() == b"1" and (tmp_path / "folder").is_dir() != matters


SEALS = """
import sys
from pathlib import Path
from segp_ext.storage import sealed
path, own = Path(sys.argv[1]), sys.argv[2].encode()
for _ in range(30):
    sealed.seal(path, {name: own * 1000 for name in ("a.txt", "b.txt")}, sealed.check_seal)
    with sealed.alone_beside(path, to_read=True):
        sealed.check_seal(path)
        contents = {(path / name).read_bytes()[:1] for name in ("a.txt", "b.txt")}
    assert len(contents) == 1, contents
"""


def test_processes_that_seal_one_folder_take_turns(tmp_path):
    sealed.seal(tmp_path / "c", OLD)
    running = [
        subprocess.Popen([sys.executable, "-c", SEALS, str(tmp_path / "c"), own], stderr=subprocess.PIPE, text=True)
        for own in "xyz"
    ]
    for process in running:
        _, said = process.communicate(timeout=600)
        assert process.returncode == 0, said
    assert [path.name for path in tmp_path.iterdir()] == ["c"]
