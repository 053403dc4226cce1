"""Images that cannot be read, left out when asked."""

import pytest
from trees import make, scenario


def test_unreadable_and_broken_images_are_left_out_when_asked(tmp_path):
    make(tmp_path, {"train/cat": 4, "test/cat": 2})
    (tmp_path / "train/cat/00.jpg").write_bytes(b"not a jpeg")
    whole = (tmp_path / "train/cat/01.PNG").read_bytes()
    (tmp_path / "train/cat/01.PNG").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "test/cat/gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "test/cat/._00.jpg").write_bytes(b"hidden")
    with pytest.raises(FileNotFoundError, match="test/cat/gone.jpg .a broken link, or no file."):
        scenario(tmp_path)
    with pytest.warns(RuntimeWarning, match=r"3 image\(s\) of .* left out .*gone.jpg .*, .*00.jpg, .*01.PNG"):
        found = scenario(tmp_path, unreadable="skip")
    assert [s.name for s in found.tasks[0].train.sources] == ["02.jpg", "03.PNG"] and len(found.tasks[0].test) == 2
    (tmp_path / "test/cat/gone.jpg").unlink()
    assert found.split_hash != scenario(tmp_path).split_hash
    with pytest.raises(
        ValueError, match="cannot read .*doctor lists all such files; --data.unreadable skip leaves them out"
    ):
        scenario(tmp_path).tasks[0].train[0]
