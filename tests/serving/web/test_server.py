"""Servers as processes: bad requests, slow senders, swaps, and the end of a process at any time."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import threading
import time
import urllib.request
from contextlib import contextmanager

import pytest
from forked import Forked, Forks
from web_service import bomb, picture, program, until

from segp_ext.method.learner import SeGPCL

pytestmark = pytest.mark.slow

STARTED = """
import sys
from segp_ext import serve
from segp_ext.serving.web import server, starting
from segp_ext.serving.web.commands import Commands
server.HEADER_SECONDS = 2.0
options = serve.read_options(sys.argv[2:])
starting.serve_learner(options, lambda line: print(line, flush=True), Commands(learn=sys.argv[1].split("\\n")))
"""


class Server:
    """A server in a process of its own, and the file of what it writes to its log."""

    def __init__(self, process, port, log):
        self.process, self.port, self.log = process, port, log

    def ask(self, path, content=None, kind="image/png"):
        """Returns (status, JSON) of a request."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", content, {"Content-Type": kind} if content else {}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def raw(self, content):
        """Sends bytes as they are; returns the response's first line, or "reset"."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            try:
                connection.sendall(content)
                found = b""
                while chunk := connection.recv(65536):
                    found += chunk
            except (ConnectionResetError, BrokenPipeError):
                return "reset"
        return found.partition(b"\r\n")[0].decode()


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """Starts a server, and ends it; a fork, as each would spend seconds on imports (`test_serve.py` starts the command)."""
    forks = Forks(tmp_path_factory.mktemp("forks"), threads=1)

    @contextmanager
    def run(learner, *given, learn=("true",)):
        arguments = ["-c", "\n".join(learn), str(learner), "--port=0", "--device=cpu", "--watch=0.1", *given]
        log = learner.parent / "log.txt"  # a pipe that nobody reads would stop the server when it is full
        said, says = os.pipe()
        with log.open("w") as errors:
            process = Forked(forks.place, STARTED, arguments, (0, says, errors.fileno()))
        os.close(says)
        try:
            with open(said) as lines:
                line = lines.readline()
            assert "http://127.0.0.1:" in line, log.read_text()
            yield Server(process, int(line.split("127.0.0.1:")[1].split("/")[0]), log)
        finally:
            process.kill()
            process.wait()

    yield run
    forks.close()


def head(path=b"/predict", method=b"POST", **headers):
    lines = [method + b" " + path + b" HTTP/1.1", b"Host: localhost", b"Connection: close"]
    return (
        b"\r\n".join([*lines, *(name.replace("_", "-").encode() + b": " + value for name, value in headers.items())])
        + b"\r\n\r\n"
    )


def test_a_thousand_bad_requests_get_4xx_and_leave_it_answering(running, saved):
    png, huge = {"Content_Type": b"image/png"}, bomb(7000)
    sound = picture(0, 64)
    kinds = [
        lambda n: head(**png, Content_Length=b"%d" % n) + sound[: n % len(sound)].ljust(n, b"\0")[:n],
        lambda n: head(**png, Content_Length=b"%d" % (len(sound) // 2)) + sound[: len(sound) // 2],
        lambda n: head(**png, Content_Length=b"%d" % len(huge)) + huge,
        lambda n: head(Content_Type=b"text/plain", Content_Length=b"4") + b"text",
        lambda n: head(Content_Type=b"application/json", Content_Length=b"4") + b"[{[{",
        lambda n: head(Content_Type=b"multipart/form-data; boundary=x", Content_Length=b"9") + b"--y\r\n\r\nab",
        lambda n: head(**png, Content_Length=b"99999999999") + b"x" * 100,
        lambda n: head(**png, X=b"a" * 40_000),
        lambda n: head(**{f"X{k}": b"a" * 100 for k in range(400)}),
        lambda n: head(b"/" + b"a" * 40_000, b"GET"),
        lambda n: bytes([n % 256]) * 50 + b"\r\n\r\n",
        lambda n: head(**png, Transfer_Encoding=b"chunked") + b"zz\r\n",
        lambda n: head(**png, Content_Length=b"-1"),
        lambda n: head(b"/predict?topk=-%d" % n, **png, Content_Length=b"4") + b"text",
        lambda n: head(b"/../../etc/passwd", b"GET"),
        lambda n: head(b"/job", b"PATCH"),
        lambda n: head(b"/classes", Content_Type=b"multipart/form-data; boundary=x", Content_Length=b"5") + b"--x--",
        lambda n: head(b"/classes/rename", Content_Length=b"2") + b"{}",
        lambda n: b"GET / HTTP/9.9\r\n\r\n",
        lambda n: head(**png, Content_Length=b"0"),
    ]  # fmt: skip
    wrong: dict[str, int] = {}
    with running(saved) as server:

        def send(part):
            for number in range(part, 1000, 8):
                kind = number % len(kinds)
                line = server.raw(kinds[kind](number + 1))
                closed = line == "reset" and kind in (7, 8, 9)  # while the head was still being sent
                if not closed and not line.startswith("HTTP/1.1 4"):
                    wrong[f"kind {kind}: {line}"] = wrong.get(f"kind {kind}: {line}", 0) + 1

        threads = [threading.Thread(target=send, args=(part,)) for part in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == {}
        status, answer = server.ask("/predict", picture())
        assert status == 200 and len(answer["images"]) == 1
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics") as response:
            text = response.read().decode()
        assert "segp_images_in_hand 0.0" in text and "segp_bytes_in_hand 0.0" in text
        server.process.terminate()
        assert server.process.wait(60) == -signal.SIGTERM
        assert server.log.read_text() == ""


def test_slow_senders_are_given_up_and_others_are_answered(running, saved):
    with running(saved, "--timeout=2") as server:
        slow = []
        for begin in (
            b"",
            b"POST /predict HTTP/1.1\r\nHost: x",
            head(Content_Type=b"image/png", Content_Length=b"1000") + b"x",
        ):
            for _ in range(20):
                connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
                connection.sendall(begin)
                slow.append((begin, connection))
        until(lambda: server.ask("/predict", picture())[0] == 200)
        for begin, connection in slow:
            line = connection.recv(4096).partition(b"\r\n")[0]
            assert line == b"HTTP/1.1 408 Request Timeout", begin
            connection.close()
        # The next request of a connection must come in time, too.
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            found = connection.recv(4096)
            while not found.endswith(b"}}"):  # the head and the body may come apart
                found += connection.recv(4096)
            assert found.startswith(b"HTTP/1.1 200")
            connection.sendall(b"GET /health HTTP/1.1\r\n")
            assert connection.recv(4096).startswith(b"HTTP/1.1 408")


def test_an_answer_does_not_wait_until_its_head_is_acknowledged(running, saved):
    """Which the kernel of a client puts off by 40 ms."""
    times = []
    with running(saved) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        for _ in range(20):
            begin = time.perf_counter()
            connection.request("GET", "/health")
            connection.getresponse().read()
            times.append(time.perf_counter() - begin)
        connection.close()
    assert min(times[5:]) < 0.03, times


def test_requests_in_hand_are_answered_when_it_ends(running, saved):
    with running(saved, "--batch_wait=1500") as server:
        found = []
        asks = threading.Thread(target=lambda: found.append(server.ask("/predict", picture())[0]))
        asks.start()
        time.sleep(0.7)
        server.process.terminate()
        asks.join()
        assert found == [200] and server.process.wait(60) == -signal.SIGTERM


def test_no_request_fails_while_learners_are_swapped(running, saved, two_learners):
    """Every answer is that of the learner that it names."""
    expected = {}
    for folder in two_learners:
        learner = SeGPCL.load(folder, "cpu")
        expected[len(learner.class_names)] = {seed: learner.predict(picture(seed), 1)[0][0].score for seed in range(4)}
    with running(saved) as server:
        ends, wrong, counts, seen = threading.Event(), [], [], {}

        def ask(seed):
            while not ends.is_set():
                status, answer = server.ask("/predict?topk=99", picture(seed))
                names = answer["images"][0]["names"] if status == 200 else []
                if status != 200 or abs(names[0]["score"] - expected[len(names)][seed]) > 1e-4:
                    wrong.append((status, answer))
                counts.append(len(names))
                if seen.setdefault(answer.get("learner"), len(names)) != len(names):
                    wrong.append(answer)

        threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for swap in range(6):
            SeGPCL.load(two_learners[(swap + 1) % 2], "cpu").save(saved)
            until(lambda swap=swap: server.ask("/health")[1]["swaps"] == swap + 1)
        ends.set()
        for thread in threads:
            thread.join()
        assert wrong == [] and {*counts} == {4, 6} and len(seen) >= 2


def test_a_server_killed_in_a_swap_loses_nothing(running, saved, two_learners):
    for delay in (0.0, 0.1, 0.2, 0.3):
        with running(saved) as server:
            SeGPCL.load(two_learners[1], "cpu").save(saved)
            time.sleep(delay)
            server.process.kill()
        assert len(SeGPCL.load(saved, "cpu").class_names) == 6
        SeGPCL.load(two_learners[0], "cpu").save(saved)
    with running(saved) as server:
        assert server.ask("/health")[1]["classes"] == 4


LEARNS = """
import sys
import numpy as np
from pathlib import Path
from PIL import Image
from segp_ext.method.learner import SeGPCL
place, folder, _ = sys.argv[1:]
learner = SeGPCL.load(place, "cpu")
(name,) = [path.name for path in Path(folder).iterdir()]
files = sorted((Path(folder) / name).iterdir())
print("progress 10 training", flush=True)
learner.learn_task([(Image.open(file), 0) for file in files], [name])
learner.save(place)
"""


def test_two_servers_and_a_program_that_learns_share_a_learner(running, saved, tmp_path):
    """A class that one server has learnt is known to both, and each goes on to answer meanwhile."""
    learn = program(tmp_path, LEARNS)
    with running(saved, learn=learn) as one, running(saved, learn=learn) as two:
        for number, (server, name) in enumerate(((one, "six"), (two, "nine"))):
            form = b'--e\r\nContent-Disposition: form-data; name="name"\r\n\r\n' + name.encode() + b"\r\n"
            for seed in range(3):
                form += (
                    b'--e\r\nContent-Disposition: form-data; name="i"; filename="a.png"\r\n\r\n'
                    + picture(seed + 9 * number)
                    + b"\r\n"
                )
            status, job = server.ask("/classes", form + b"--e--\r\n", "multipart/form-data; boundary=e")
            assert status == 202, job
            while server.ask("/job")[1]["state"] == "learning":
                assert {each.ask("/predict", picture())[0] for each in (one, two)} == {200}
            assert server.ask("/job")[1]["state"] == "learnt", server.ask("/job")
            for each in (one, two):
                until(lambda each=each, number=number: each.ask("/health")[1]["classes"] == 5 + number)
        names = [each["name"] for each in one.ask("/classes")[1]["classes"]]
        assert names == ["0", "1", "2", "3", "six", "nine"] == [*SeGPCL.load(saved, "cpu").class_names]
        answers = [server.ask("/predict?topk=9", picture(5)) for server in (one, two)]
        assert answers[0] == answers[1]
        shutil.rmtree(saved)
        until(lambda: one.ask("/health")[1]["status"] == "stale")
        assert one.ask("/predict", picture())[0] == 200
