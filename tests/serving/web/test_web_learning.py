"""A class that is learnt behind the answers: progress, ends of all kinds, and the pictures that are gone afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time

import pytest
from web_service import alive, client_of, picture, program, until

from segp_ext.serving.web.commands import Commands
from segp_ext.serving.web.learning import Job, Learning, progressed
from segp_ext.serving.web.limits import RefusedError

IMAGES = [(".jpg", b"one"), (".png", b"two")]


@pytest.fixture
def learning(tmp_path, monkeypatch):
    """Makes what learns with a program of this code, which finds its folder of images as `folder`; temporary files lie in tmp/."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    made = []

    def make(code, keep=None):
        start = "import os, sys, time, pathlib, json; learner, folder, option = sys.argv[1:]; assert option == '--progress'\n"
        done = []
        made.append(
            Learning(tmp_path / "saved", Commands(learn=program(tmp_path, start + code)), lambda: done.append(1), keep)
        )
        made[-1].calls = done
        return made[-1]

    yield make
    for each in made:
        each.close()
    assert list((tmp_path / "tmp").iterdir()) == []


def ended(learning):
    return until(lambda: learning.job.state != "learning" and learning.job)


def test_a_class_is_learnt_with_progress(learning, tmp_path):
    runs = learning(
        f"""
files = {{str(file.relative_to(folder)): file.read_text() for file in pathlib.Path(folder).rglob("*.*")}}
pathlib.Path({str(tmp_path / "got")!r}).write_text(json.dumps([learner, files]))
print("learning red fox", flush=True)
print("progress 42 training", flush=True)
while not os.path.exists({str(tmp_path / "go")!r}):
    time.sleep(0.02)
print("progress 99 saving it")
"""
    )
    job = runs.start("red fox", IMAGES)
    assert job == Job(1, "red fox", 2) and runs.job.state == "learning"
    until(lambda: runs.job.percent == 42)
    assert runs.job.stage == "training" and runs.calls == []
    with pytest.raises(RefusedError, match="the class 'red fox' is being learnt; wait, or cancel it first"):
        runs.start("other", IMAGES)
    (tmp_path / "go").touch()
    assert ended(runs) == Job(1, "red fox", 2, "learnt", 100, "saving it")
    until(lambda: runs.calls == [1])
    place, files = json.loads((tmp_path / "got").read_text())
    assert place == str(tmp_path / "saved") and files == {"red fox/000.jpg": "one", "red fox/001.png": "two"}
    assert runs.start("next", IMAGES).number == 2
    ended(runs)


@pytest.mark.parametrize(
    ("code", "state", "message"),
    [
        ("print('error: the class is learnt already', file=sys.stderr); sys.exit(2)", "refused", "the class is learnt already"),
        ("print('progress 10 x'); raise MemoryError('no room')", "failed", "MemoryError: no room"),
        ("os.kill(os.getpid(), 9)", "failed", "the program ended with status -9 and said nothing"),
    ],
)  # fmt: skip
def test_how_it_may_end_otherwise(learning, tmp_path, code, state, message):
    runs = learning(code, tmp_path / "keep")
    runs.start("fox", IMAGES)
    job = ended(runs)
    assert (job.state, job.message) == (state, message) and runs.calls == [] and not (tmp_path / "keep").exists()


def test_a_program_that_is_not_there_leaves_nothing(learning):
    runs = learning("")
    runs.commands = Commands(learn=["/nowhere/program"])
    with pytest.raises(OSError, match="/nowhere/program"):
        runs.start("fox", IMAGES)
    assert runs.job is None


def test_cancelling_stops_the_program(learning, tmp_path):
    runs = learning(
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); print('progress 5 a', flush=True); time.sleep(60)"
    )
    with pytest.raises(RefusedError, match="no class is being learnt"):
        runs.cancel()
    runs.start("fox", IMAGES)
    until(lambda: runs.job.percent == 5)
    runs.cancel()
    assert (runs.job.state, runs.job.percent, runs.calls) == ("cancelled", 5, [])
    assert not alive(int((tmp_path / "pid").read_text()))
    runs.start("fox", IMAGES)
    runs.cancel()
    assert runs.job.state == "cancelled" and runs.job.number == 2


def test_a_program_that_does_not_listen_is_killed(learning, monkeypatch):
    monkeypatch.setattr("segp_ext.serving.web.learning.PATIENCE", 0.3)
    runs = learning(
        "import signal; signal.signal(15, signal.SIG_IGN); print('progress 1 a', flush=True); time.sleep(60)"
    )
    runs.start("fox", IMAGES)
    until(lambda: runs.job.percent == 1)
    begin = time.monotonic()
    runs.cancel()
    assert runs.job.state == "cancelled" and time.monotonic() - begin < 20


def test_a_program_that_ends_in_spite_of_cancelling_has_learnt(learning):
    runs = learning(
        "import signal; signal.signal(15, lambda *_: sys.exit(0)); print('progress 90 a', flush=True); time.sleep(60)"
    )
    runs.start("fox", IMAGES)
    until(lambda: runs.job.percent == 90)
    runs.cancel()
    assert runs.job.state == "learnt" and runs.calls == [1]


def test_pictures_are_kept_where_that_is_asked(learning, tmp_path):
    keep = tmp_path / "keep"
    runs = learning("", keep)
    for _ in range(2):
        runs.start("fox", IMAGES)
        assert ended(runs).message == ""
    kept = {file.name: file.read_bytes() for file in (keep / "fox").iterdir()}
    assert kept == {"000.jpg": b"one", "001.png": b"two", "002.jpg": b"one", "003.png": b"two"}
    (keep / "owl").write_text("in the way")
    runs.start("owl", IMAGES)
    job = ended(runs)
    assert job.state == "learnt" and job.message.startswith("its images were not all kept: ")


@pytest.mark.parametrize(
    ("line", "percent", "stage"),
    [
        ("progress 7 a b", 7, "a b"),
        ("progress 700 a", 100, "a"),
        ("progress", 1, "s"),
        ("progress x a", 1, "s"),
        ("task 3 of 4", 1, "s"),
    ],
)
def test_lines_of_progress(line, percent, stage):
    job = progressed(Job(1, "fox", 2, percent=1, stage="s"), line)
    assert (job.percent, job.stage) == (percent, stage)


KILLED = """
import pathlib, sys, time
from segp_ext.serving.web.commands import Commands
from segp_ext.serving.web.learning import Learning
runs = Learning(pathlib.Path(sys.argv[1]), Commands(learn=sys.argv[2:]), print)
runs.start("fox", [(".jpg", b"one")])
print("started", flush=True)
time.sleep(60)
"""


def test_a_server_that_is_killed_leaves_the_program_to_its_end(tmp_path):
    """It writes to files: a pipe to nobody would end it at its next line."""
    called = program(
        tmp_path,
        f"""
        import time
        for number in range(100):
            print("progress", number, "x", flush=True)
            time.sleep(0.02)
        open({str(tmp_path / "done")!r}, "w")
        """,
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    server = subprocess.Popen(
        [sys.executable, "-c", KILLED, tmp_path, *called], stdout=subprocess.PIPE, env=environment, text=True
    )
    assert server.stdout.readline() == "started\n"
    server.send_signal(signal.SIGKILL)
    server.wait()
    assert not (tmp_path / "done").exists()
    until((tmp_path / "done").exists)


# -- over HTTP ------------------------------------------------------------------------------------------------------------------


def sent(*contents):
    return [("images", (f"{number}.png", content)) for number, content in enumerate(contents)]


def test_a_class_is_learnt_over_http_and_the_new_learner_answers(saved, two_learners, tmp_path):
    code = f"""
        import pathlib, shutil, sys
        place, folder, _ = sys.argv[1:]
        names = sorted(str(file.relative_to(folder)) for file in pathlib.Path(folder).rglob("*.*"))
        pathlib.Path({str(tmp_path / "got")!r}).write_text(repr(names))
        shutil.rmtree(place)
        shutil.copytree({str(two_learners[1])!r}, place)
        """
    with client_of(saved, commands=Commands(learn=program(tmp_path, code))) as (client, _):
        assert client.get("/job").json() == {"state": "none"}
        response = client.delete("/job")
        assert response.status_code == 409 and response.json() == {"error": "no class is being learnt"}
        response = client.post("/classes", data={"name": "red fox"}, files=sent(picture(1), picture(2, form="JPEG")))
        assert response.status_code == 202 and response.json()["name"] == "red fox" and response.json()["images"] == 2
        until(lambda: client.get("/job").json()["state"] == "learnt")
        until(lambda: client.get("/health").json()["classes"] == 6)
    assert (tmp_path / "got").read_text() == repr(["red fox/000.png", "red fox/001.jpg"])


@pytest.mark.parametrize(
    ("name", "contents", "status", "said"),
    [
        (None, [picture()], 422, "the class needs a name"),
        ("a/b", [picture()], 422, "without / and"),
        ("fox", [], 400, "no image came"),
        ("fox", [picture(), b"text"], 422, "image 2 (1.png): cannot read "),
        ("fox", [picture()] * 501, 400, "Too many files"),
    ],
)
def test_what_cannot_be_learnt_is_refused_before_a_program_starts(saved, tmp_path, name, contents, status, said):
    called = program(tmp_path, f"open({str(tmp_path / 'called')!r}, 'w')")
    with client_of(saved, commands=Commands(learn=called)) as (client, service):
        field = [("x", (None, "1"))] if name is None else [("name", (None, name))]
        response = client.post("/classes", files=[*field, *sent(*contents)])
        assert response.status_code == status and said in response.json()["error"]
        assert service.learning.job is None and service.bytes.taken == 0
    assert not (tmp_path / "called").exists()


def test_the_end_of_the_server_ends_the_program(saved, tmp_path):
    called = program(
        tmp_path, f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    )
    with client_of(saved, commands=Commands(learn=called)) as (client, service):
        client.post("/classes", data={"name": "fox"}, files=sent(picture()))
        process = int(until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text()))
    assert not alive(process) and service.learning.job.state == "cancelled"
