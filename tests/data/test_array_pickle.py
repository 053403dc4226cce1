"""Pickles of arrays by Python 2, NumPy 1 and NumPy 2 are read; a pickle that would run something is refused."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from trees import as_python2_wrote

from segp_ext.data.array_pickle import read_arrays

CONTENT = {
    "data": np.arange(6, dtype=np.uint8).reshape(2, 3),
    "turned": np.asfortranarray(np.arange(6, dtype=">i4").reshape(2, 3)),
    "labels": [1, 2, np.int64(3)],
    "names": ["apple", "Äpfel"],
    "number": 1.5,
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_what_numpy_writes_is_read(tmp_path, protocol):
    (tmp_path / "file").write_bytes(pickle.dumps(CONTENT, protocol))
    found = read_arrays(tmp_path / "file")
    assert found.keys() == CONTENT.keys() and found["labels"] == [1, 2, 3] and found["names"] == CONTENT["names"]
    for name in ("data", "turned"):
        np.testing.assert_array_equal(found[name], CONTENT[name])
        assert found[name].flags.writeable


def test_what_python_2_wrote_is_read(tmp_path):
    (tmp_path / "file").write_bytes(as_python2_wrote({b"data": CONTENT["data"], b"names": [b"apple"], b"labels": [7]}))
    assert pickle.loads((tmp_path / "file").read_bytes(), encoding="bytes")[b"labels"] == [7]  # it is a true pickle
    found = read_arrays(tmp_path / "file")
    np.testing.assert_array_equal(found["data"], CONTENT["data"])
    assert found["names"] == ["apple"] and found["labels"] == [7]


class Runs:
    """An object whose pickle calls a function when the standard library unpickles it."""

    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    "call", [os.mkdir, os.system, subprocess.check_call, eval, exec, np.load, np.lib.format.open_memmap, getattr]
)
def test_a_pickle_that_would_run_something_is_refused(tmp_path, monkeypatch, call, protocol):
    monkeypatch.chdir(tmp_path)
    argument = {"mkdir": "ran", "eval": "__import__('os').mkdir('ran')", "exec": "import os; os.mkdir('ran')"}
    runs = Runs(call, argument.get(call.__name__, "mkdir ran"))
    (tmp_path / "train").write_bytes(pickle.dumps({"data": runs}, protocol))
    with pytest.raises(ValueError, match=r"train is refused as a pickle of arrays: it asks for \w+"):
        read_arrays(tmp_path / "train")
    assert not (tmp_path / "ran").exists()


def test_known_names_take_no_state(tmp_path):
    """A pickle may also set attributes of a function that it names (BUILD), to change what the function does later."""
    (tmp_path / "file").write_bytes(b"\x80\x02cnumpy\ndtype\n}U\x05_callK\x01sb.")
    with pytest.raises(ValueError, match="file is refused .*: state for a name"):
        read_arrays(tmp_path / "file")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "file is refused"),
        (b"not a pickle", "file is refused"),
        (pickle.dumps(CONTENT)[:-20], "file is refused"),
        (pickle.dumps([1]), "it holds a list, not a dict"),
        (pickle.dumps({"x": {1: 2}}), "it holds a dict"),
        (pickle.dumps({"x": np.array(["a"], dtype=object)}), "file is refused"),
        (pickle.dumps({"x": np.array(["a"])}), "arrays of <U1 are not read, only numbers"),
        (pickle.dumps({"x": np.zeros(2, dtype=[("a", "O")])}), "file is refused"),
        (pickle.dumps({"x": np.array(["2020"], dtype="M8[D]")}), "file is refused"),
        (b"\x80\x02cnumpy\nndarray\nK\x04\x85R.", "may not be made this way"),
        (b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00hex\x86R.", "bytes in encoding 'hex'"),
    ],
)
def test_what_is_no_pickle_of_numbers_is_refused(tmp_path, content, message):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_arrays(tmp_path / "file")


def test_a_few_bytes_take_little_memory(tmp_path):
    """The file holds an index into the unpickler's memo. The unpickler in C makes room for all indices before it."""
    (tmp_path / "bomb").write_bytes(b"\x80\x04}r\xff\xff\xff\x0f.")
    code = (
        "import resource, sys; from pathlib import Path; from segp_ext.data.array_pickle import read_arrays\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "assert read_arrays(Path(sys.argv[1])) == {}\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    grown = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "bomb")], capture_output=True, text=True, check=True
    )
    assert int(grown.stdout) < 50_000  # KiB
