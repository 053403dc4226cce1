"""Files that a user names: what is taken, in which order, and what is refused."""

import io
import os
from pathlib import Path

import pytest

from segp_ext.data.chosen_files import chosen_files


@pytest.fixture
def here(tmp_path, monkeypatch):
    for name in (
        "b/2.png",
        "b/10.JPG",
        "b/deep/er/1.png",
        "b/.hidden.png",
        "b/.kept/1.png",
        "b/notes.txt",
        "a.dat",
        "x[1].png",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def chosen(*arguments, listed=b""):
    return list(map(str, chosen_files(arguments, io.BytesIO(listed))))


def test_folders_are_read_at_any_depth_in_one_order(here):
    assert chosen("b") == ["b/10.JPG", "b/2.png", "b/deep/er/1.png"]
    assert chosen("b/deep", "b/2.png", "b/deep") == ["b/deep/er/1.png", "b/2.png", "b/deep/er/1.png"]
    assert chosen("a.dat", "b/notes.txt", "x[1].png") == ["a.dat", "b/notes.txt", "x[1].png"]
    assert chosen("*/*.png", "b*") == ["b/2.png", "b/10.JPG", "b/2.png", "b/deep/er/1.png"]


def test_a_list_holds_a_path_in_each_line(here):
    (here / " spaced ü.png").write_bytes(b"")
    assert chosen("a.dat", "-", listed=b"b/2.png\r\n\n\nb/deep\n spaced \xc3\xbc.png") == [
        "a.dat", "b/2.png", "b/deep/er/1.png", " spaced ü.png"
    ]  # fmt: skip


def test_names_that_are_no_utf8_are_taken(here):
    (here / os.fsdecode(b"\xff.png")).write_bytes(b"")
    assert chosen("-", listed=b"\xff.png\n") == [os.fsdecode(b"\xff.png")]


def test_what_names_no_image_is_refused(here):
    Path("empty").mkdir()
    os.mkfifo("pipe")
    for arguments, message in (
        (["gone.png", "b"], "^there is no file or folder gone.png$"),
        (["empty"], "^no image in the folder empty .known endings: .*png"),
        (["*.gif"], "^no file matches "),
        ([""], "^a path must not be empty; . is the folder where you are$"),
        (["pipe"], "^pipe is neither a file nor a folder$"),
        (["https://x/a.png"], "is an address; download it"),
        (["-"], "^no path on standard input$"),
    ):
        with pytest.raises(ValueError, match=message):
            chosen(*arguments)
    with pytest.raises(ValueError, match="^there is no file or folder 0, .* 1, .* 2 and 99997 more$"):
        chosen("-", listed=b"\n".join(b"%d" % number for number in range(100_000)))
