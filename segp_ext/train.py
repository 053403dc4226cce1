"""Runs a method over a scenario, task after task: `python -m segp_ext.train`."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import platform
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

import segp_ext
from segp_ext.clip.pretrained import load_clip
from segp_ext.config import PATHS, RESUMABLE, Config, ScorePath, dotted, with_method
from segp_ext.data import load_scenario
from segp_ext.data.images import Images, Reader
from segp_ext.data.scenario import Joined
from segp_ext.method.learner import SeGPCL
from segp_ext.method.parts import own_code
from segp_ext.report import run_report as report
from segp_ext.report.result import PathResult, Resumption, Row, RunResult, Status, TaskReport
from segp_ext.run.command_line import parse_run, settings_file
from segp_ext.run.directory import RunDirectory, SavedRun, checkpoint_after, learning, unfinished
from segp_ext.run.evaluation import Evaluated, EvaluationSet, Evaluator
from segp_ext.run.identity import identify
from segp_ext.run.preflight import attempts, doubts, held_out_sets
from segp_ext.runtime.processes import join, leave, share_cores
from segp_ext.runtime.progress import plain_warnings, run_command
from segp_ext.runtime.timing import Timer
from segp_ext.storage import sealed
from segp_ext.storage.sealed import write_atomically
from segp_ext.storage.task_progress import TaskProgress

LOWER = {
    "training": "training.prompts_per_pass, or raise training.accumulate",
    "anchors": "anchors.batch_size or anchors.memory_gb",
    "text": "training.prompts_per_pass",
}
"""What to change where memory runs out, by phase; where nothing is named, inference.batch_size. None of it changes what is learnt."""
_FREE_FACTS = ("id", "hash", "changed", "data", "layout", "weights")
"""Facts of a protocol that say where things lie; the weights are compared by themselves."""


def versions() -> dict[str, str]:
    """Versions of Python, this package and those that it stands on."""
    packages = ("torch", "torchvision", "numpy", "open_clip_torch", "timm", "peft", "safetensors", "scikit-learn")
    found = {"segp_ext": segp_ext.__version__, "python": platform.python_version()}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


class Run:
    """One run and its directory.

    Args:
        config: everything about it.
        resume: folder of the run to go on with; a new one by default.

    Attributes:
        directory: where it writes.
        result: what result.json holds, kept up to date task by task.
    """

    def __init__(self, config: Config, resume: Path | None = None) -> None:
        self.config = config
        self.processes, device_name = join(config.model.device)
        share_cores(self.processes, config.run.threads)
        self._held: RunDirectory | None = None  # by the main process alone
        if resume is not None and self.processes.is_main:
            self._held = RunDirectory.reopen(resume)
        with self.processes.main_first():  # downloads happen once
            self.scenario = load_scenario(config.data)
            self.backbone = load_clip(
                config.model.name,
                config.model.pretrained,
                device_name,
                resize_mode=config.model.resize_mode,
                precision=config.model.precision,
                compile=config.model.compile,
            )
        facts = identify(config, self.scenario, self.backbone)
        self._agree(facts["hash"])
        reader = Reader(self.backbone.transform, config.loading, self.backbone.device, self.processes.local_count)
        self.train_images = [Images(task.train, reader) for task in self.scenario.tasks]
        self.tests = [EvaluationSet(task.class_names, Images(task.test, reader)) for task in self.scenario.tasks]
        for attempt in attempts(config, self.scenario, self.backbone):
            attempt()
        self.held_out = {}
        facts["held_out"] = {}
        for name, held in held_out_sets(config, self.backbone).items():
            test = held.tasks[0].test
            self.held_out[name] = EvaluationSet(held.class_names, Images(test, reader))
            facts["held_out"][name] = {
                "classes": len(held.class_names),
                "images": len(test),
                "split_hash": held.split_hash,
            }
        of_held_out = {source: held.class_names for source, held in self.held_out.items()}
        for source, names in {"": self.scenario.class_names, **of_held_out}.items():
            doubt = doubts(config, names, source)
            if doubt is not None:
                self.say(f"note: {doubt}")
        device = self.backbone.device
        self.result = RunResult(
            name="",
            status="running",
            message="",
            method=config.method,
            seed=config.seed,
            settings=dataclasses.asdict(with_method(config)),
            protocol=facts,
            scores=[],
            retention={},
            prototype_distance=[],
            tasks=[],
            phases={},
            passes={},
            device=torch.cuda.get_device_name(device)
            if device.type == "cuda"
            else platform.processor() or platform.machine(),
            processes=self.processes.count,
            threads=torch.get_num_threads(),
            versions=versions(),
            build=segp_ext.build_info(),
            code=own_code(with_method(config)),
            started=datetime.now().astimezone().isoformat(timespec="seconds"),
        )
        self._saved: SavedRun | None = None
        self.directory = Path(os.devnull)
        if resume is not None:
            self.directory = resume
            self._saved = self._last_checkpoint()
        elif self.processes.is_main:
            self._offer_unfinished()
            self._held = RunDirectory.create(config, self.scenario.name)
            self.directory = self._held.path
            write_atomically(self.directory / "config.yaml", settings_file(dataclasses.asdict(config)))
        self.result.name = self.directory.name

    def _last_checkpoint(self) -> SavedRun | None:
        """Where the run goes on: its newest whole checkpoint, if it came so far; takes over the result until then."""
        saved = None if self._held is None else self._held.load()
        found = -1 if saved is None else len(saved.learner.task_sizes)
        mine = torch.tensor(found if self.processes.is_main else 0, device=self.backbone.device)
        done = int(self.processes.sum(mine))
        if done < 0:
            return None
        if saved is None:
            saved = SavedRun.read(checkpoint_after(self.directory, done))
        saved.learner.check_weights(self.backbone)
        before, now = saved.result, self.result
        protocol = json.loads(json.dumps(now.protocol))
        facts = [key for key, value in protocol.items() if key not in _FREE_FACTS and before.protocol.get(key) != value]
        was, free = dotted(before.settings), (*RESUMABLE, "model.", "data.", "loading.", "run.", "held_out")
        settings = [
            key for key, value in dotted(now.settings).items() if was.get(key) != value and not key.startswith(free)
        ]
        key = "data.evaluate_global"  # of data's settings the one on which the result's rows depend
        if was[key] != self.config.data.evaluate_global:
            settings.append(key)
        facts += [f"the code of {name}" for name, digest in now.code.items() if before.code.get(name, digest) != digest]
        if facts or settings:
            raise ValueError(
                f"{self.directory} cannot go on: since its start these changed: {', '.join(facts + settings)}; put them back, or start a "
                "new run"
            )
        then, here = (
            {**result.versions, "device": result.device, "threads": result.threads, "processes": result.processes}
            for result in (before, now)
        )
        apart = [f"{key} {then.get(key)} → {value}" for key, value in here.items() if then.get(key) != value]
        if apart:
            text = f"not as at the run's start: {', '.join(apart)}; numbers may differ by rounding"
            warnings.warn(text, RuntimeWarning, stacklevel=2)
        before.resumed.append(Resumption(done, now.started, now.device))
        self.result = before
        return saved

    def _offer_unfinished(self) -> None:
        """Says that a run of the same settings could be gone on with instead."""
        for path, message in unfinished(Path(self.config.run.directory), dataclasses.asdict(self.config)):
            self.say(
                f"note: {path} has the same settings and did not end ({message.rstrip('.')}); --resume {path} goes on with it"
            )

    def _agree(self, digest: str) -> None:
        """All processes must see the same images, names and weights."""
        mine = torch.tensor(int(digest[:12], 16), device=self.backbone.device)
        others = self.processes.gather(mine)
        self.processes.wait()  # where one differs all stop, and none before the last has read what it needs
        for rank, other in enumerate(others):
            if int(other) != int(mine):
                raise ValueError(
                    f"processes 1 to {self.processes.count} must see the same data, settings and weights; those of process {rank + 1} "
                    f"differ from those of process {self.processes.rank + 1}. Compare `python -m segp_ext.doctor` on each host."
                )

    def execute(self) -> RunResult:
        """Learns and evaluates every task; returns the result, which is also in the directory, whatever happens."""
        total = len(self.scenario.tasks)
        done = 0 if self._saved is None else len(self._saved.learner.task_sizes)
        self.result.class_names = self.scenario.class_names
        self._finish("running", self._progress(done))
        try:
            if self._saved is None:
                self._frozen_baselines()
            learner = SeGPCL(self.backbone, self.config, self.processes)
            self.result.trained_parameters = sum(p.numel() for p in self.backbone.trained_parameters())
            self.say(f"{self.config.method}: {self.result.trained_parameters:,} trained parameters")
            if self._saved is None:
                evaluator = Evaluator(
                    learner, self.tests, self.held_out, evaluate_global=self.config.data.evaluate_global
                )
                self._take(evaluator)
                for line in report.chance(self.result):
                    self.say(line)
                self._save(learner)
            else:
                saved = self._saved.learner
                learner.restore(saved.class_names, saved.task_sizes, saved.tensors)
                evaluator = Evaluator(learner, self.tests, self.held_out, self._evaluated())
                self.say(f"going on after task {done}")
            for task, images in list(zip(self.scenario.tasks, self.train_images, strict=True))[done:]:
                kept = TaskProgress(
                    learning(self.directory, done + 1),
                    self.config.run.checkpoint_steps,
                    self.processes,
                    self.backbone.device,
                    self._start(done),
                )
                if learner.config.training.joint:
                    learnt = self._learn_all(learner, done + 1, kept)
                else:
                    learnt = learner.learn_task(images, task.class_names, kept)
                evaluator.after_task()
                for name, phase in learnt.phases.items():
                    self.result.spend(name, phase)
                self._take(evaluator)
                self.result.tasks.append(learnt)
                done += 1
                self._save(learner)
                self._finish("running", self._progress(done))
                seen = ", ".join(f"{path} {report.percent(s.pooled[-1])}" for path, s in evaluator.paths.items())
                self.say(f"task {done}/{total} [{', '.join(task.class_names)}] accuracy % over all seen: {seen}")
            if self.processes.is_main:
                self.result.plots = report.plot(self.directory, self.result)
            self._finish("finished", f"All {done} tasks learnt.")
        except KeyboardInterrupt:
            self._finish("interrupted", f"Interrupted after {done} of {total} tasks.")
            raise
        except BaseException as error:
            self._finish("failed", f"Failed after {done} of {total} tasks: {type(error).__name__}: {error}")
            raise
        return self.result

    def _learn_all(self, learner: SeGPCL, count: int, kept: TaskProgress) -> TaskReport:
        """Has the learner learn the first `count` tasks at once, from the pre-trained model."""
        tasks = self.scenario.tasks[:count]
        sizes = [len(task.class_names) for task in tasks]
        learner.forget()
        learnt = learner.learn_task(
            Joined([task.train for task in tasks], sizes), [name for task in tasks for name in task.class_names], kept
        )
        learner.task_sizes = sizes
        return learnt

    def _progress(self, done: int) -> str:
        return f"{done} of {len(self.scenario.tasks)} tasks learnt." if done else "No task learnt yet."

    def _take(self, evaluator: Evaluator) -> None:
        """Puts the evaluator's numbers, and the time that they took, into the result."""
        self.result.retention = evaluator.retention
        self.result.prototype_distance = evaluator.prototype_distance
        for path, scores in evaluator.paths.items():
            self.result.record(Row(self.config.method, path, False, scores))
        for name, phase in evaluator.timer.phases.items():
            self.result.spend(name, phase)
        evaluator.timer.phases.clear()

    def _evaluated(self) -> Evaluated:
        """What the result holds of an evaluator's numbers."""
        paths = {path: self.result.row(path).scores for path in PATHS}
        return Evaluated(paths, self.result.prototype_distance, self.result.retention)

    def _count_passes(self) -> None:
        """Moves the counts of compiled encoders into the result."""
        counts, spent = self.result.passes, dataclasses.asdict(self.backbone.passes)
        self.backbone.passes.total = self.backbone.passes.eager = 0
        if self.config.model.compile:
            counts.update({name: counts.get(name, 0) + count for name, count in spent.items()})

    def _save(self, learner: SeGPCL) -> None:
        self._count_passes()
        if self._held is not None:
            self._held.save(len(learner.task_sizes), learner.write, self.result, self.config.run.keep_checkpoints)

    def _start(self, done: int) -> str:
        """Says what the task after so many tasks starts from, in the main process: the checkpoint, to the byte."""
        if not self.processes.is_main:
            return ""
        return f"task {done + 1} after {sealed.identity(checkpoint_after(self.directory, done))}"

    def _frozen_baselines(self) -> None:
        """Zero-shot CLIP and heads on the frozen model, from the same learner without training."""
        timer = Timer(self.backbone.stopwatch, self.backbone.device)
        heads = {"frozen-prototypes": "frozen prototypes"}
        own = with_method(self.config)
        if own.prototypes.score == "mahalanobis" and own.training.epochs > 0:
            head = "rda" if own.prototypes.own_covariance > 0 else "lda"
            heads[head] = f"frozen {head}"
        said: list[str] = []
        with timer.phase("baselines"):
            for method, row in heads.items():
                config = with_method(dataclasses.replace(self.config, method=method))
                config = dataclasses.replace(config, training=dataclasses.replace(config.training, joint=False))
                frozen = SeGPCL(self.backbone, config, self.processes)
                evaluator = Evaluator(frozen, self.tests, evaluate_global=self.config.data.evaluate_global and not said)
                for task, images in zip(self.scenario.tasks, self.train_images, strict=True):
                    frozen.learn_task(images, task.class_names)
                    evaluator.after_task()
                found: dict[str, tuple[ScorePath, PathResult]] = (
                    {} if said else {"zero-shot": ("text", evaluator.paths["text"])}
                )
                for name, (path, scores) in {**found, row: ("visual", evaluator.paths["visual"])}.items():
                    self.result.record(Row(name, path, True, scores))
                    said.append(f"{name} {report.percent(scores.pooled[-1])}")
        self.result.spend("baselines", timer.phases["baselines"])
        self.say(f"{', '.join(said)} (accuracy % over all classes)")

    def _finish(self, status: Status, message: str) -> None:
        self.result.status, self.result.message = status, message
        self.result.updated = datetime.now().astimezone().isoformat(timespec="seconds")
        if self.processes.is_main:
            if self._held is not None:
                self._held.check_held()
            report.write(self.directory, self.result)

    def close(self) -> None:
        """Lets other processes work in the run's folder."""
        if self._held is not None:
            self._held.release()

    def say(self, line: str) -> None:
        """Prints a line, in the main process alone."""
        if self.processes.is_main:
            print(line, flush=True)


class Terminated(KeyboardInterrupt):
    """The process was asked to end (SIGTERM), as by a batch system whose time is up."""


@contextmanager
def _terminable() -> Iterator[None]:
    """Lets SIGTERM end what is inside as Ctrl-C does."""

    def stop(*_: Any) -> None:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    plain_warnings()
    config, resume = parse_run(sys.argv[1:] if argv is None else argv)
    with _terminable():
        return _run(config, resume)


def _run(config: Config, resume: Path | None) -> int:
    run: Run | None = None
    try:
        run = Run(config, resume)
        run.say(f"{run.result.protocol['id']} → {run.directory}")
        result = run.execute()
    except KeyboardInterrupt as error:
        print(f"\ninterrupted{_going_on(run)}", file=sys.stderr)
        return 143 if isinstance(error, Terminated) else 130
    except torch.OutOfMemoryError as error:
        phase = (getattr(error, "__notes__", None) or ["loading"])[-1]
        lower = LOWER.get(phase, "inference.batch_size")
        print(f"error: the GPU's memory ran out in phase {phase}; lower {lower}{_going_on(run)}", file=sys.stderr)
        return 2
    except (OSError, ValueError, FloatingPointError) as error:
        print(f"error: {error}{_going_on(run)}", file=sys.stderr)
        return 2
    finally:
        leave()
        if run is not None:
            run.close()
    parts = [*report.tables(result), *report.retention(result), report.phases(result), *report.passes(result)]
    run.say("\n" + "\n\n".join(parts) + f"\n\nResults, plots and checkpoints: {run.directory}")
    return 0


def _going_on(run: Run | None) -> str:
    return (
        ""
        if run is None or not run.processes.is_main
        else f"\nto go on: python -m segp_ext.train --resume {run.directory}"
    )


if __name__ == "__main__":
    run_command(main)
