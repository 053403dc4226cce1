"""Every benchmark has a reader, and each says what it looked for where it finds nothing."""

from typing import get_args, get_type_hints

import pytest
from trees import scenario

from segp_ext.config import DataConfig
from segp_ext.data.readers import READERS


def test_every_benchmark_has_a_reader():
    names = get_args(get_type_hints(DataConfig)["name"])
    assert set(READERS) == set(names) - {"auto", "digits", "folder"}


@pytest.mark.parametrize("name", READERS)
def test_what_is_not_recognised_says_what_was_looked_for_and_what_is_there(tmp_path, name):
    (tmp_path / "notes").write_text("x")
    with pytest.raises(FileNotFoundError, match="data.root: .*there: notes; accepted: .*<root>"):
        scenario(tmp_path, name=name)
    with pytest.raises(NotADirectoryError, match="data.root: '.*notes' is a file; unpack it if it is an archive"):
        scenario(tmp_path / "notes", name=name)
    with pytest.raises(FileNotFoundError, match="data.root: no folder .*gone'"):
        scenario(tmp_path / "gone", name=name)
