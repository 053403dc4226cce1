"""The command that serves: errors in one line before anything is loaded, and a server that starts and ends."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest
from made import learnt_glyph

from segp_ext import serve
from segp_ext.method.learner import SeGPCL


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The folder of a saved learner; no test changes it."""
    folder = tmp_path_factory.mktemp("learner") / "saved"
    learnt_glyph().save(folder)
    return folder


def test_what_cannot_start_is_said_in_one_line_before_a_learner_is_loaded(saved, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(SeGPCL, "load", None)
    monkeypatch.delenv("SEGP_TOKEN", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for arguments, said in (
            (
                [f"--port={port}"],
                f"port {port} of 127.0.0.1 is in use; stop the program there, or choose another --port",
            ),
            (["--host=0.0.0.0"], "--host 0.0.0.0 lets other machines ask; give a --token that they must bring"),
            (["--host=0.0.0.0", "--token="], "--host 0.0.0.0 lets other machines ask"),
            (["--token="], "--token is empty; leave it out"),
            (["--host=no.such.host.invalid", "--token=x"], "cannot listen on port 8000 of no.such.host.invalid: "),
            (["--host=192.0.2.1", "--token=x"], "cannot listen on port 8000 of 192.0.2.1: "),
            ([f"--keep_images={tmp_path / 'file'}"], f"--keep_images {tmp_path / 'file'}: this is no folder"),
        ):
            assert serve.main([str(saved), *arguments]) == 2, arguments
            said_all = capsys.readouterr()
            assert said_all.out == "" and len(said_all.err.splitlines()) == 1, said_all.err
            assert said_all.err.startswith("error: ") and said in said_all.err
        for place in (tmp_path / "gone", tmp_path):
            assert serve.main([str(place), "--port=0"]) == 2
            assert capsys.readouterr().err == (
                f"error: no checkpoint at {place}: neither learner.json nor a whole checkpoints/task-* is there\n"
            )


def test_a_path_that_the_learner_lacks_is_refused(saved, capsys):
    assert serve.main([str(saved), "--port=0", "--device=cpu", "--path=auto"]) == 2
    assert "error: path must be one of text, visual, dual; got 'auto'" in capsys.readouterr().err


def test_an_extra_that_is_missing_is_named_with_the_command_that_installs_it(saved, monkeypatch, capsys):
    find = serve.importlib.util.find_spec
    monkeypatch.setattr(serve.importlib.util, "find_spec", lambda name: None if name == "uvicorn" else find(name))
    assert serve.main([str(saved)]) == 2
    assert capsys.readouterr().err == "error: serve needs uvicorn, not installed here: pip install 'segp_ext[serve]'\n"


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("--batch_size=0", "--batch_size must be 1 or more; got 0"),
        ("--port=-1", "--port must be 0 or more; got -1"),
        ("--port=70000", "--port must be 65535 or less; got 70000"),
        ("--timeout=0", "--timeout must be a number above 0; got 0"),
        ("--max_mb=nan", "--max_mb must be a number above 0; got nan"),
        ("--max_megapixels=inf", "--max_megapixels must be a number above 0; got inf"),
        ("--batch_wait=-1", "--batch_wait must be a number from 0; got -1"),
        ("--batch_wait=inf", "--batch_wait must be a number from 0; got inf"),
        ("--unknown=1", "--unknown must be between 0 and 1; got 1"),
        ("--queue=10", "--max_images must be --queue or less; got 64 and 10"),
        ("--prot=1", "unrecognized arguments: --prot=1; close: --port"),
    ],
)
def test_arguments_that_do_not_fit(argument, said, capsys):
    with pytest.raises(SystemExit) as stop:
        serve.read_options(["saved", argument])
    assert stop.value.code == 2 and said in capsys.readouterr().err


def test_the_token_may_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("SEGP_TOKEN", "s3cret")
    assert serve.read_options(["saved"]).token == "s3cret"
    assert serve.read_options(["saved", "--token", "other"]).token == "other"


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_it_says_where_it_answers_and_ends_when_asked(saved, how):
    command = [sys.executable, "-m", "segp_ext.serve", str(saved), "--port=0", "--device=cpu"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    said = server.stderr.readline()
    found = re.fullmatch(rf"{saved}: 4 classes at (http://127\.0\.0\.1:\d+/) \(Ctrl-C stops\)\n", said)
    assert found, said
    with urllib.request.urlopen(f"{found[1]}health") as response:
        assert json.load(response)["classes"] == 4
    server.send_signal(how)
    assert server.wait(60) == (130 if how == signal.SIGINT else -signal.SIGTERM)
    assert server.stderr.read() == ("stopped\n" if how == signal.SIGINT else "")
