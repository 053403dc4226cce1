"""Counts the requests that `segp serve` answers per second, with how long each took, and watches the server's memory.

Clients are threads of another process. Each keeps one connection, and sends one JPEG of 256 × 256 pixels after the other. The server runs
the built-in model, with batching (32 images, 2 ms) and without.

    python -m benchmarks.bench_serve [--seconds 10] [--clients 1 8 64] [--out FILE.md]
    python -m benchmarks.bench_serve --memory_minutes 10
"""

from __future__ import annotations

import argparse
import http.client
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil

from segp_ext.report.table import markdown_table
from segp_ext.storage.sealed import write_atomically

from .bench_predict import make_files, make_learner

BATCHING = {"on": (), "off": ("--batch_size=1",)}
"""Options of the server with batching and without."""
_HEADERS = {"Content-Type": "image/jpeg"}


@contextmanager
def running(learner: Path, options: tuple[str, ...]) -> Iterator[tuple[psutil.Process, int]]:
    """Runs a server on a free port; gives its process and its port."""
    command = [sys.executable, "-m", "segp_ext.serve", str(learner), "--port=0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    try:
        line = next(line for line in process.stdout if "http://" in line)
        port = int(line.rpartition("http://")[2].partition("/")[0].rpartition(":")[2])
        threading.Thread(target=process.stdout.read, daemon=True).start()  # a full pipe would stop the server
        yield psutil.Process(process.pid), port
    finally:
        process.terminate()
        process.wait(30)


def ask(port: int, images: list[bytes], until: float, times: list[float], refused: list[int]) -> None:
    """Sends images one after the other until a time of `time.perf_counter`; adds the seconds of each answer to `times`.

    An answer other than 200 goes to `refused` by its status.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    number = 0
    while time.perf_counter() < until:
        begun = time.perf_counter()
        connection.request("POST", "/predict", images[number % len(images)], _HEADERS)
        response = connection.getresponse()
        response.read()
        if response.status == 200:
            times.append(time.perf_counter() - begun)
        else:
            refused.append(response.status)
        number += 1
    connection.close()


def measured(port: int, images: list[bytes], clients: int, seconds: float) -> tuple[list[float], list[int]]:
    """Lets clients ask at the same time, after a second of warming up; returns the seconds of all answers, and refusals."""
    ask(port, images, time.perf_counter() + 1, [], [])
    times: list[list[float]] = [[] for _ in range(clients)]
    refused: list[int] = []
    until = time.perf_counter() + seconds
    threads = [threading.Thread(target=ask, args=(port, images, until, own, refused)) for own in times]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [one for own in times for one in own], refused


def requests(learner: Path, images: list[bytes], clients: list[int], seconds: float) -> list[list[str]]:
    """Measures every number of clients with batching and without, interleaved; returns the rows of the table."""
    rows = []
    for count in clients:
        for batching, options in BATCHING.items():
            with running(learner, options) as (_, port):
                times, refused = measured(port, images, count, seconds)
            p50, p95, p99 = (1000 * np.percentile(times, [50, 95, 99])).tolist()
            rows.append(
                [
                    str(count), batching, f"{len(times) / seconds:.0f}", f"{p50:.1f}", f"{p95:.1f}", f"{p99:.1f}", str(len(refused)),
                ]
            )  # fmt: skip
            print(" ".join(rows[-1]), flush=True)
    return rows


def memory(learner: Path, images: list[bytes], minutes: float) -> list[list[str]]:
    """Watches the server's memory under eight clients; returns a row for each tenth of the time."""
    rows = []
    with running(learner, ()) as (process, port):
        for part in range(11):
            rows.append([f"{part * minutes / 10:.1f}", f"{process.memory_info().rss / 1e6:.0f}"])
            print(" ".join(rows[-1]), flush=True)
            if part < 10:
                measured(port, images, 8, 6 * minutes)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10, help="time of each measurement")
    parser.add_argument(
        "--clients", type=int, nargs="+", default=[1, 8, 64], help="numbers of clients at the same time"
    )
    parser.add_argument("--memory_minutes", type=float, help="watch the memory for so long instead")
    parser.add_argument("--out", type=Path, help="Markdown file for the table")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        learner = Path(folder) / "learner"
        make_learner("glyph", "cpu").save(learner)
        (Path(folder) / "images").mkdir()
        images = [file.read_bytes() for file in make_files(Path(folder) / "images", 32)]
        if options.memory_minutes is None:
            head = ["clients", "batching", "requests/s", "p50 ms", "p95 ms", "p99 ms", "refused"]
            table = markdown_table([head, *requests(learner, images, options.clients, options.seconds)])
        else:
            table = markdown_table([["minutes", "resident MB"], *memory(learner, images, options.memory_minutes)])
    print(table)
    if options.out is not None:
        command = f"`python -m benchmarks.bench_serve {' '.join(sys.argv[1:])}`, {os.cpu_count()} CPU cores, {time.strftime('%Y-%m-%d')}"
        write_atomically(options.out, f"{command}\n\n{table}\n".encode())


if __name__ == "__main__":
    main()
