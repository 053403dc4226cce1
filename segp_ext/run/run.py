"""A run: learns a data set task after task, evaluates after each, and keeps result and checkpoints in the run's folder."""

from __future__ import annotations

import dataclasses
import os
import platform
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import torch

import segp_ext
from segp_ext.clip.pretrained import load_clip
from segp_ext.config import Config, with_method
from segp_ext.config.yaml_dialect import settings_file
from segp_ext.data import load_scenario
from segp_ext.data.images import Images, Reader
from segp_ext.data.scenario import Joined
from segp_ext.method.learner import SeGPCL
from segp_ext.method.named_parts import own_code
from segp_ext.report import run_page, run_plots, run_tables
from segp_ext.report.result import Row, RunResult, Status, TaskReport
from segp_ext.report.table import percent
from segp_ext.run.baselines import measure_baselines
from segp_ext.run.directory import RunDirectory, SavedRun, checkpoint_after, learning, unfinished
from segp_ext.run.evaluation import Evaluated, EvaluationSet, Evaluator
from segp_ext.run.identity import identify
from segp_ext.run.installation import versions
from segp_ext.run.preflight import attempts, doubts, held_out_sets
from segp_ext.run.resuming import find_saved, take_over
from segp_ext.runtime.processes import join, leave, share_cores
from segp_ext.runtime.program import program
from segp_ext.storage import sealed
from segp_ext.storage.class_records import with_tasks
from segp_ext.storage.sealed import write_atomically
from segp_ext.storage.task_progress import TaskProgress


def _silent(line: str) -> None:
    pass


def run_config(
    config: Config,
    resume: Path | None = None,
    *,
    say: Callable[[str], object] = _silent,
    begun: Callable[[Run], object] | None = None,
) -> RunResult:
    """Learns and evaluates every task of a data set, as the settings say.

    It does what `segp train` does: the folder of the run under `config.run.directory` gets settings, result, pages, plots and
    checkpoints. Under `torchrun` or `accelerate launch` all processes call it with equal settings, and share the work.

        import segp_ext

        config = segp_ext.load_config("digits", changes={"seed": 1})
        result = segp_ext.run_config(config, say=print)
        print(result.row("dual").scores.metrics()["last"])

    Args:
        config: Settings of the run. `Config()` has the paper's; `segp_ext.load_config` reads the package's settings and files.
        resume: Folder of a run that stopped; it goes on there. `config` must then hold the settings of its config.yaml.
        say: Called in the main process with each line that tells how far the run is; silent by default.
        begun: Called once with the run, when its folder is there and nothing is learnt yet.

    Returns:
        The result, which is also in `result.json`.

    Raises:
        TypeError: If `config` is no `Config`, such as the name of a file.
        FileNotFoundError: If data, weights or the run to resume are not there.
        FileExistsError: If the folder holds a run already, or another process works in it.
        ValueError: If settings do not fit the data or the model, or if something changed since the start of a resumed run.
        FloatingPointError: If losses or scores are not finite.
        OSError: If a file cannot be read or written.
        torch.OutOfMemoryError: If the memory of the device runs out; the last of its notes names the phase.
    """
    if not isinstance(config, Config):
        raise TypeError(
            f"config must be a segp_ext.Config, as segp_ext.load_config(...) returns it; got {type(config).__name__} {config!r}"
        )
    run: Run | None = None
    try:
        run = Run(config, resume, say)
        if begun is not None:
            begun(run)
        return run.execute()
    finally:
        leave()
        if run is not None:
            run.close()


class Run:
    """One run and its folder; `run_config` makes one, executes it and closes it.

    Args:
        config: Settings of the run.
        resume: Folder of a run that goes on; a new run by default.
        say: Called in the main process with each line for the user.

    Attributes:
        directory: Folder of the run.
        result: Content of result.json, kept up to date task by task.
        processes: Processes that share the run.

    Raises:
        OSError, ValueError: As `run_config`.
    """

    def __init__(self, config: Config, resume: Path | None = None, say: Callable[[str], object] = _silent) -> None:
        self.config, self._say = config, say
        self.processes, device = join(config.model.device)
        share_cores(self.processes, config.run.threads)
        self._held: RunDirectory | None = None  # the main process alone holds it
        if resume is not None and self.processes.is_main:
            self._held = RunDirectory.reopen(resume)
        try:
            self._load(device)
            self._begin(resume)
        except BaseException:
            self.close()
            raise

    def _load(self, device: str) -> None:
        """Loads data and model, and checks what would stop the run later."""
        config = self.config
        with self.processes.main_first():  # downloads happen once
            self.scenario = load_scenario(config.data)
            self.backbone = load_clip(
                config.model.name,
                config.model.pretrained,
                device,
                resize_mode=config.model.resize_mode,
                precision=config.model.precision,
                compile=config.model.compile,
            )
        self.facts = identify(config, self.scenario, self.backbone)
        self._agree(self.facts["hash"])
        reader = Reader(self.backbone.transform, config.loading, self.backbone.device, self.processes.local_count)
        self.train_images = [Images(task.train, reader) for task in self.scenario.tasks]
        self.tests = [
            EvaluationSet(task.class_names, Images(task.test, reader), task.wording) for task in self.scenario.tasks
        ]
        for attempt in attempts(config, self.scenario, self.backbone):
            attempt()
        self.held_out = {}
        self.facts["held_out"] = {}
        for name, held in held_out_sets(config, self.backbone).items():
            test = held.tasks[0].test
            self.held_out[name] = EvaluationSet(held.class_names, Images(test, reader))
            self.facts["held_out"][name] = {
                "classes": len(held.class_names),
                "images": len(test),
                "split_hash": held.split_hash,
            }
        of_held_out = {source: held.class_names for source, held in self.held_out.items()}
        for source, names in {"": self.scenario.called, **of_held_out}.items():
            doubt = doubts(config, names, source)
            if doubt is not None:
                self.say(f"note: {doubt}")

    def _begin(self, resume: Path | None) -> None:
        """Takes over the result of the run that goes on, or makes the folder of a new one."""
        self.result = self._new_result()
        self._saved: SavedRun | None = None
        self.directory = Path(os.devnull)
        if resume is not None:
            self.directory = resume
            self._saved = find_saved(resume, self._held, self.processes, self.backbone.device)
            if self._saved is not None:
                self.result = take_over(self._saved, self.result, self.backbone, resume)
        elif self.processes.is_main:
            self._offer_unfinished()
            self._held = RunDirectory.create(self.config, self.scenario.name)
            self.directory = self._held.path
            write_atomically(self.directory / "config.yaml", settings_file(dataclasses.asdict(self.config)))
        self.result.name = self.directory.name

    def _new_result(self) -> RunResult:
        device = self.backbone.device
        on_gpu = device.type == "cuda"
        own = with_method(self.config)
        return RunResult(
            name="",
            status="running",
            message="",
            method=self.config.method,
            seed=self.config.seed,
            settings=dataclasses.asdict(own),
            protocol=self.facts,
            scores=[],
            retention={},
            prototype_distance=[],
            tasks=[],
            phases={},
            passes={},
            device=torch.cuda.get_device_name(device) if on_gpu else platform.processor() or platform.machine(),
            processes=self.processes.count,
            threads=torch.get_num_threads(),
            versions=versions(),
            build=segp_ext.build_info(),
            code=own_code(own),
            started=datetime.now().astimezone().isoformat(timespec="seconds"),
        )

    def _offer_unfinished(self) -> None:
        """Names runs of the same settings that stopped and could go on instead."""
        for path, message in unfinished(Path(self.config.run.directory), dataclasses.asdict(self.config)):
            self.say(
                f"note: a run of the same settings stopped: {path} ({message.rstrip('.')}); --resume {path} goes on with it"
            )

    def _agree(self, digest: str) -> None:
        """Checks that all processes see the same images, names and weights.

        Raises:
            ValueError: If one sees others.
        """
        mine = torch.tensor(int(digest[:12], 16), device=self.backbone.device)
        others = self.processes.gather(mine)
        self.processes.wait()  # or a process that stops here would take the others' answer with it
        for rank, other in enumerate(others):
            if int(other) != int(mine):
                raise ValueError(
                    f"processes 1 to {self.processes.count} must see the same data, settings and weights; process {rank + 1} sees others "
                    f"than process {self.processes.rank + 1}. Compare `{program('doctor')}` on each host."
                )

    def execute(self) -> RunResult:
        """Learns and evaluates every task that is not learnt yet.

        Returns:
            The result. Its file in the folder says how far the run came, however it ends.

        Raises:
            OSError, ValueError, FloatingPointError, torch.OutOfMemoryError: As `run_config`.
        """
        total = len(self.scenario.tasks)
        done = 0 if self._saved is None else len(self._saved.learner.task_sizes)
        self.result.class_names = self.scenario.class_names
        self._finish("running", self._progress(done))
        try:
            if self._saved is None:
                self._measure_baselines()
            learner = SeGPCL(self.backbone, self.config, self.processes)
            self.result.trained_parameters = sum(p.numel() for p in self.backbone.trained_parameters())
            self.say(f"{self.config.method}: {self.result.trained_parameters:,} trained parameters")
            evaluator = self._evaluator(learner)
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
                    learnt = learner.learn_task(images, task.class_names, kept, task.wording)
                evaluator.after_task()
                for name, phase in learnt.phases.items():
                    self.result.spend(name, phase)
                self._take(evaluator)
                self.result.tasks.append(learnt)
                done += 1
                self._save(learner)
                self._finish("running", self._progress(done))
                seen = ", ".join(f"{path} {percent(s.pooled[-1])}" for path, s in evaluator.paths.items())
                self.say(f"task {done}/{total} [{', '.join(task.class_names)}] accuracy % over all seen: {seen}")
            if self.processes.is_main:
                self.result.plots = run_plots.plot(self.directory, self.result)
            self._finish("finished", f"All {done} tasks learnt.")
        except KeyboardInterrupt:
            self._finish("interrupted", f"Interrupted after {done} of {total} tasks.")
            raise
        except BaseException as error:
            self._finish("failed", f"Failed after {done} of {total} tasks: {type(error).__name__}: {error}")
            raise
        return self.result

    def _evaluator(self, learner: SeGPCL) -> Evaluator:
        """Makes the evaluator of a new learner, or restores a learner and takes the evaluator's earlier numbers from the result."""
        if self._saved is None:
            evaluator = Evaluator(learner, self.tests, self.held_out, evaluate_global=self.config.data.evaluate_global)
            self._take(evaluator)
            for line in run_tables.chance(self.result):
                self.say(line)
            self._save(learner)
            return evaluator
        saved = self._saved.learner
        learner.restore(saved.records, saved.task_sizes, saved.tensors, saved.measured)
        paths = {row.path: row.scores for row in self.result.own}
        earlier = Evaluated(paths, self.result.prototype_distance, self.result.retention)
        evaluator = Evaluator(learner, self.tests, self.held_out, earlier)
        self.say(f"going on after task {len(saved.task_sizes)}")
        return evaluator

    def _learn_all(self, learner: SeGPCL, count: int, kept: TaskProgress) -> TaskReport:
        """Teaches the learner the first `count` tasks at once, from the pre-trained model."""
        tasks = self.scenario.tasks[:count]
        stream = dataclasses.replace(self.scenario, tasks=tasks)
        place = {name: place for place, name in enumerate(stream.class_names)}
        learner.forget()
        images = Joined([task.train for task in tasks], [[place[name] for name in task.class_names] for task in tasks])
        learnt = learner.learn_task(images, [*place], kept, stream.wording)
        new = [
            len(set(task.class_names).difference(*(old.class_names for old in tasks[:i])))
            for i, task in enumerate(tasks)
        ]
        learner.task_sizes, learner.records = new, with_tasks(learner.records, new)
        return learnt

    def _progress(self, done: int) -> str:
        return f"{done} of {len(self.scenario.tasks)} tasks learnt." if done else "No task learnt yet."

    def _measure_baselines(self) -> None:
        found = measure_baselines(self.config, self.backbone, self.processes, self.train_images, self.tests)
        for row in found.rows:
            self.result.record(row)
        self.result.spend("baselines", found.spent)
        said = [f"{row.method} {percent(row.scores.pooled[-1])}" for row in found.rows]
        self.say(f"{', '.join(said)} (accuracy % over all classes)")

    def _take(self, evaluator: Evaluator) -> None:
        """Puts the evaluator's numbers, and the time that they took, into the result."""
        self.result.retention = evaluator.retention
        self.result.prototype_distance = evaluator.prototype_distance
        for path, scores in evaluator.paths.items():
            self.result.record(Row(self.config.method, path, False, scores))
        for name, phase in evaluator.timer.phases.items():
            self.result.spend(name, phase)
        evaluator.timer.phases.clear()

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
        """Returns, in the main process, what the task after `done` tasks starts from: the checkpoint, to the byte."""
        if not self.processes.is_main:
            return ""
        return f"task {done + 1} after {sealed.identity(checkpoint_after(self.directory, done))}"

    def _finish(self, status: Status, message: str) -> None:
        """Writes the result with a status, if this is the main process."""
        self.result.status, self.result.message = status, message
        self.result.updated = datetime.now().astimezone().isoformat(timespec="seconds")
        if self.processes.is_main:
            if self._held is not None:
                self._held.check_held()
            run_page.write(self.directory, self.result)

    def close(self) -> None:
        """Lets other processes work in the run's folder."""
        if self._held is not None:
            self._held.release()

    def say(self, line: str) -> None:
        """Tells the user a line, in the main process alone."""
        if self.processes.is_main:
            self._say(line)
