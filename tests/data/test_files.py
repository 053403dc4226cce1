"""Which files count: endings, links, and what programs leave behind."""

import os

import pytest
from PIL import Image
from trees import make, scenario

from segp_ext.config import DataConfig
from segp_ext.data import load_collection
from segp_ext.data.files import leads_out, read_json


def test_what_programs_leave_behind_is_no_data(tmp_path):
    root = make(tmp_path, {f"{part}/{c}": 2 for part in ("train", "test") for c in "ab"})
    make(
        root, {"train/a/.cache": 1, "train/a/@eaDir": 1, "train/__MACOSX/a": 1, "test/@eaDir": 1, "train/b/deep/er": 1}
    )
    make(
        root,
        {"train/$RECYCLE.BIN": 1, "test/System Volume Information": 1, "train/#recycle/a": 1, "test/b/@Recycle": 1},
    )
    for name in ("Desktop.ini", "ehthumbs.db", "Icon\r"):
        (root / "train/a" / name).write_bytes(b"")
    found = scenario(root)
    assert found.class_names == ["a", "b"] and load_collection(DataConfig(root=str(root))).stray == []
    assert [len(task.train) for task in found.tasks] == [5] and [len(task.test) for task in found.tasks] == [4]


def test_linked_folders_are_read_and_loops_end(tmp_path):
    root = make(tmp_path / "data", {"a/part": 2, "b": 2})
    make(tmp_path / "elsewhere", {"more": 3})
    (root / "a/linked").symlink_to(tmp_path / "elsewhere/more")
    (root / "a/back").symlink_to(root / "a")
    (root / "c").symlink_to(tmp_path / "elsewhere/more")
    found = load_collection(DataConfig(root=str(root), merge_folders=True))
    assert [len(a) + len(b) for a, b in zip(found.train, found.test, strict=True)] == [5, 2, 3]


def test_a_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    root = make(tmp_path, {"a": 2, "b/closed": 2})
    usual = os.scandir

    def scandir(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return usual(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(PermissionError, match="b/closed"):
        load_collection(DataConfig(root=str(root)))


def test_endings_of_jpeg(tmp_path):
    root = make(tmp_path, {"a": 2, "b": 2})
    for number, ending in enumerate(("jfif", "JPE", "pgm")):
        name = root / f"a/x{number}.{ending}"
        Image.new("L", (4, 4)).save(name, "PPM" if ending == "pgm" else "JPEG")
    found = load_collection(DataConfig(root=str(root)))
    assert len(found.train[0]) + len(found.test[0]) == 5
    for source in found.train[0]:
        assert found.opener(source).mode == "RGB"


@pytest.mark.parametrize("path", ["", "/a.jpg", "\\a.jpg", "..", "../a.jpg", "a/../b.jpg", "a\\..\\b.jpg"])
def test_paths_that_lead_out_of_a_folder(path):
    assert leads_out(path)


@pytest.mark.parametrize("path", ["a.jpg", "a/b.jpg", "a..b/c.jpg", ".../a.jpg", "./a.jpg"])
def test_paths_that_stay_in_a_folder(path):
    assert not leads_out(path)


def test_a_json_file_with_and_without_a_mark_of_its_encoding(tmp_path):
    path = tmp_path / "names.json"
    for encoding in ("utf-8", "utf-8-sig"):
        path.write_text('{"a": "Ünï"}', encoding=encoding)
        assert read_json(path) == {"a": "Ünï"}
    for damaged in (b"", b"{", b"\xff\xfe", b"[" * 100_000):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="names.json is not a JSON file: "):
            read_json(path)
