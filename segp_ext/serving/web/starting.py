"""Puts a server together from the options of the command, and runs it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from starlette.types import ASGIApp

from segp_ext.method.learner import SeGPCL
from segp_ext.runtime.processes import cores
from segp_ext.serving.web.access import LOOPBACK, Access, is_loopback
from segp_ext.serving.web.app import Service, make_app
from segp_ext.serving.web.batching import Batcher
from segp_ext.serving.web.commands import Commands
from segp_ext.serving.web.learner_watch import LearnerWatch
from segp_ext.serving.web.learning import Learning
from segp_ext.serving.web.limits import Limits, Room
from segp_ext.serving.web.metrics import Metrics
from segp_ext.serving.web.server import bound_socket, serve

BODIES = 16
"""Bodies of the largest size that may be in hand at a time."""


def serve_learner(options: argparse.Namespace, tell: Callable[[str], object], commands: Commands | None = None) -> None:
    """Serves a learner until the process is asked to end.

    Args:
        options: The options of `segp_ext.serve`.
        tell: Is told where the server answers, once it does.
        commands: How the programs that change the learner are called.

    Raises:
        KeyboardInterrupt: After Ctrl-C.
        OSError, ValueError: In one line, if the server cannot start.
    """
    check_reach(options.host, options.token)
    check_keep(options.keep_images)
    with bound_socket(options.host, options.port) as listening:
        # Threads that call the model share the cores.
        torch.set_num_threads(max(1, torch.get_num_threads() // options.threads))
        service = make_service(options, commands or Commands())
        host = f"[{options.host}]" if ":" in options.host else options.host
        classes = len(service.watch.current.records)
        tell(f"{options.learner}: {classes} classes at http://{host}:{listening.getsockname()[1]}/ (Ctrl-C stops)")
        serve(guarded(service, options.host, options.token), listening)


def check_reach(host: str, token: str | None) -> None:
    """Refuses to listen to other machines without a token.

    Raises:
        ValueError: If `host` is not this machine alone and there is no token, or for an empty one, which anybody would guess.
    """
    if not is_loopback(host) and not token:
        raise ValueError(
            f"--host {host} lets other machines ask; give a --token that they must bring, or leave --host out"
        )
    if token == "":
        raise ValueError("--token is empty; leave it out, or give one that nobody guesses")


def check_keep(folder: Path | None) -> None:
    """Makes the folder that keeps pictures.

    Raises:
        OSError: If it cannot be written to.
    """
    if folder is not None:
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(f"--keep_images {folder}: this is no folder")
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(f"--keep_images {folder}: the folder cannot be written to")


def make_service(options: argparse.Namespace, commands: Commands) -> Service:
    """Reads the learner and makes what answers.

    Raises:
        OSError, ValueError: If there is no learner, or it cannot answer.
    """

    def load(folder: Path) -> SeGPCL:
        return SeGPCL.load(folder, options.device, options.pretrained)

    watch = LearnerWatch(Path(os.path.expanduser(options.learner)), load, options.unknown, options.watch)
    watch.current.classifier.chosen_path(options.path)
    limits = Limits(
        bytes=int(options.max_mb * 1e6),
        pixels=int(options.max_megapixels * 1e6),
        images=options.max_images,
        seconds=options.timeout,
    )
    metrics = Metrics()
    service = Service(
        watch=watch,
        batcher=Batcher(options.batch_size, options.batch_wait / 1000, options.threads, metrics.batches.observe),
        learning=Learning(watch.place, commands, watch.soon, options.keep_images),
        limits=limits,
        images=Room(options.queue, "images"),
        bytes=Room(BODIES * limits.bytes, "bytes"),
        decoders=ThreadPoolExecutor(cores(), thread_name_prefix="decode"),
        path=options.path,
        metrics=metrics,
    )
    metrics.gauge("segp_images_in_hand", "Images that wait for an answer.", lambda: service.images.taken)
    metrics.gauge("segp_bytes_in_hand", "Bytes of requests in hand.", lambda: service.bytes.taken)
    metrics.gauge("segp_classes", "Classes of the learner that answers.", lambda: len(watch.current.records))
    metrics.gauge("segp_swaps", "How often another learner took over.", lambda: watch.swaps)
    metrics.gauge("segp_stale", "1 if the learner on disk could not take over.", lambda: watch.trouble is not None)
    return service


def guarded(service: Service, host: str, token: str | None) -> ASGIApp:
    """Puts the application behind the checks of who may ask, and counts all requests."""
    access = Access(make_app(service), token, [*LOOPBACK, host, f"[{host}]"], pages=("/", "/report"))
    return service.metrics.counting(access)
