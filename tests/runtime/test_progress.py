"""What commands show while they work."""

import io
import os
import pty
import subprocess
import sys
import termios

import pytest
from made import learnt_glyph
from PIL import Image

from segp_ext.runtime.progress import progress


def test_warnings_of_commands_are_one_line():
    code = (
        "import warnings; from segp_ext.runtime.progress import plain_warnings; plain_warnings(); "
        "warnings.warn('two images were left out', RuntimeWarning)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "warning: two images were left out\n"


SAYING = """
import sys, warnings
from segp_ext.runtime.progress import plain_warnings, progress, say
plain_warnings()
for number in progress(range(3), "runs", 3):
    say(f"run {number} is done")
    say("it failed", sys.stderr)
    warnings.warn("an image was left out", RuntimeWarning)
    warnings.resetwarnings()
"""
SAID = ["run 0 is done", "it failed", "warning: an image was left out"]


def screen(output):
    """The rows that a terminal shows after this output."""
    rows, column = [""], 0
    for character in output:
        if character == "\n":
            rows.append("")
        elif character == "\r":
            column = 0
        else:
            rows[-1] = rows[-1][:column].ljust(column) + character + rows[-1][column + 1 :]
            column += 1
    return [row.rstrip() for row in rows]


def in_terminal(command):
    """What a command writes to a terminal of 80 columns."""
    ours, its = pty.openpty()
    termios.tcsetwinsize(its, (24, 80))
    environment = {**os.environ, "PYTHONWARNINGS": "always"}
    with subprocess.Popen(command, stdin=its, stdout=its, stderr=its, env=environment) as running:
        os.close(its)
        found = b""
        try:
            while part := os.read(ours, 10000):
                found += part
        except OSError:  # how a terminal ends
            pass
    os.close(ours)
    assert running.returncode == 0, found
    return found.decode()


def test_what_is_said_stands_above_the_bar():
    output = in_terminal([sys.executable, "-c", SAYING])
    assert "runs:   0%" in output  # there was a bar
    assert screen(output) == [line.replace("0", str(number)) for number in range(3) for line in SAID] + [""]


def test_without_a_terminal_there_are_lines_alone():
    environment = {**os.environ, "PYTHONWARNINGS": "always"}
    done = subprocess.run([sys.executable, "-c", SAYING], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines() == [f"run {number} is done" for number in range(3)]
    assert done.stderr.splitlines() == SAID[1:] * 3


class Logger:
    """What programs put in the place of standard error to have it in their log."""

    def write(self, text):
        pass

    def flush(self):
        pass


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("stream", [None, Logger(), closed()], ids=["none", "a logger", "closed"])
def test_without_a_terminal_there_is_no_bar(stream, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream)
    assert list(progress([1, 2], "counting")) == [1, 2]


def test_a_command_runs_without_input_and_output(tmp_path):
    """As a service; and what it opens gets none of the numbers to which native code writes."""
    code = (
        "import sys; from segp_ext.runtime.progress import run_command, progress\n"
        "def main():\n"
        "    print('nobody reads this', file=sys.stderr); print(list(progress([1], 'x')))\n"
        f"    with open({str(tmp_path / 'number')!r}, 'w') as file: file.write(str(file.fileno()))\n"
        "    return 0\n"
        "run_command(main)"
    )
    done = subprocess.run(["sh", "-c", '"$0" -c "$1" <&- >&- 2>&-', sys.executable, code])
    assert done.returncode == 0 and int((tmp_path / "number").read_text()) > 2


@pytest.fixture(scope="module")
def learner():
    return learnt_glyph()


@pytest.mark.slow
@pytest.mark.parametrize("module", ["doctor", "predict"])
def test_output_that_nobody_reads_is_no_error(module, learner, tmp_path):
    learner.save(tmp_path / "saved")
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    given = ["--help"] if module == "doctor" else [str(tmp_path / "saved"), str(tmp_path / "x.png")]
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        command = [sys.executable, "-m", f"segp_ext.{module}", *given]
        done = subprocess.run(command, stdout=pipe, stderr=subprocess.PIPE)
    assert done.returncode in (0, 141) and done.stderr == b""


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_output_in_an_encoding_that_lacks_characters(encoding, learner, tmp_path):
    learner.save(tmp_path / "saved")
    Image.new("RGB", (8, 8)).save(tmp_path / "Füße→.png")
    for given in (["predict", str(tmp_path / "saved"), str(tmp_path / "Füße→.png")], ["train", "--help"]):
        environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "1"}
        done = subprocess.run(
            [sys.executable, "-m", f"segp_ext.{given[0]}", *given[1:]], capture_output=True, env=environment
        )
        assert done.returncode == 0 and done.stderr == b""
    assert b"usage: python -m segp_ext.train" in done.stdout
