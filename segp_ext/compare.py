"""Compares methods over several seeds: `segp compare`."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from segp_ext.config import Config, setting_types
from segp_ext.config.imports import import_files
from segp_ext.report import comparison_page, terminal
from segp_ext.report.comparison import Comparison
from segp_ext.run.arguments import joined, settings_given, take, unrecognized
from segp_ext.run.comparing import check_same_data, make_jobs
from segp_ext.run.help import HelpFormatter, Parser, usage_of
from segp_ext.run.jobs import execute_jobs, usable_devices
from segp_ext.run.rows import check_rows, packaged_rows, read_rows
from segp_ext.runtime.processes import cores
from segp_ext.runtime.program import as_typed, program
from segp_ext.runtime.progress import plain_warnings, run_command

DESCRIPTION = """\
Run methods over several seeds and put them into tables: metrics over seen classes, global metrics of the text path, and the cost. A
number is a mean and a standard deviation. Beside it stands the paired difference from the first row, with its 95 % confidence interval.
A seed sets the class order too, unless a protocol or --data.order says it (a --config does not). It also takes the place of {seed} in
settings.

Runs that are there already are taken; runs that stopped go on. Writes FOLDER/runs/ (one folder for each run), FOLDER/results.csv,
FOLDER/summary.md, FOLDER/report.html, FOLDER/plots/ and FOLDER/matrices.jsonl (every accuracy); with --held_out, FOLDER/retention.csv
too.

Exit status: 0 if all runs finished, 1 if one did not, 2 for arguments that do not fit.

examples:
  python -m segp_ext.compare --out comparisons/digits
  python -m segp_ext.compare --out comparisons/lwf --seeds 1 2 3 4 5 \\
      --methods segp lwf lora 'lora training.classes=new'
  python -m segp_ext.compare --out comparisons/steps \\
      --methods segp 'segp anchors.steps=20' --config cub200 --data.root DIR
  python -m segp_ext.compare --out comparisons/parts --rows paper/parts \\
      --config cifar100 --data.root DIR
      a table of the paper
"""
METHODS = ["segp", "lwf", "lora"]
"""Methods that are compared by default."""
_OWN = {
    "method": "--methods",
    "seed": "--seeds",
    "run.name": "--out",
    "run.directory": "--out",
    "run.threads": "--threads",
}
"""Settings of a run that options of a comparison say."""


def _parser() -> Parser:
    settings = (
        "All other arguments are settings for every run: --config, --protocol and --SECTION.SETTING. python -m segp_ext.train "
        "--help shows the settings that matter most, and --help all shows every setting."
    )
    parser = Parser(
        prog=program("compare"), usage=usage_of("compare"), description=as_typed(DESCRIPTION), formatter_class=HelpFormatter,
        epilog=as_typed(settings), allow_abbrev=False,
    )  # fmt: skip
    methods = "methods, each in one string with the settings in which it differs; default: " + " ".join(METHODS)
    parser.add_argument("--methods", nargs="+", metavar="METHOD", help=methods)
    rows = "YAML list of methods in place of --methods, or one in the package: " + ", ".join(packaged_rows())
    parser.add_argument("--rows", metavar="FILE", help=rows)
    seeds = "seeds of every method; default: 1 2 3"
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], metavar="SEED", help=seeds)
    out = "folder of the comparison; runs that are there already are taken"
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help=out)
    jobs = "runs at a time; default: one on each CUDA device, or one"
    parser.add_argument("--jobs", type=int, metavar="N", help=jobs)
    threads = "CPU threads of each run; default: the cores shared out over the runs at a time"
    parser.add_argument("--threads", type=int, metavar="N", help=threads)
    return parser


def _options(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Reads the command line; returns its options and the arguments for every run. Exits with a message if one does not fit."""
    parser = _parser()
    options, settings = parser.parse_known_args(argv)
    try:
        settings = joined(settings)
        imported, others = take(take(settings, "--config")[1], "--import")
        import_files(imported)
        given, others = settings_given([argument.replace("{seed}", str(options.seeds[0])) for argument in others])
    except ValueError as error:
        parser.error(str(error))
    for name, option in _OWN.items():
        if name in given:
            parser.error(f"--{name} cannot be given here; give {option} instead")
    unknown = [argument for argument in others if argument != "--print_config"]
    if unknown:
        settable = [f"--{name}" for name in setting_types(Config) if name not in _OWN]
        parser.error(unrecognized(unknown, parser, settable))
    if options.out.exists() and not options.out.is_dir():
        parser.error(f"--out must be a folder; {options.out} is a file")
    if options.rows is not None and options.methods is not None:
        parser.error("--methods and --rows say the same thing; give one of them")
    try:
        options.methods = options.methods or (METHODS if options.rows is None else read_rows(options.rows))
    except (OSError, ValueError) as error:
        parser.error(f"--rows {options.rows}: {error}")
    try:
        check_rows(options.methods, _OWN.items())
    except ValueError as error:
        parser.error(str(error))
    if twice := [seed for number, seed in enumerate(options.seeds) if seed in options.seeds[:number]]:
        parser.error(f"--seeds holds {twice[0]} twice")
    for name in ("jobs", "threads"):
        if getattr(options, name) is not None and getattr(options, name) < 1:
            parser.error(f"--{name} must be 1 or more; got {getattr(options, name)}")
    return options, settings


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; `argv` are its arguments, by default the process's arguments. Returns its exit status, as `DESCRIPTION` says."""
    plain_warnings()
    options, given = _options(argv)
    devices = usable_devices()
    count = options.jobs or len(devices)
    jobs = make_jobs(options.methods, options.seeds, options.out, given, options.threads or max(1, cores() // count))
    try:
        results = {job: result for job in jobs if (result := job.result()) is not None}
        print(f"{len(jobs)} runs, {len(results)} of them done", flush=True)
        failed = execute_jobs([job for job in jobs if job not in results], devices, count, results)
        check_same_data(results)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if not results:
        return 1
    words = [*program("compare").split(), *(sys.argv[1:] if argv is None else argv)]
    finished = {(job.row.label, job.seed): results[job] for job in jobs if job in results}
    found = Comparison(finished, shlex.join(words), options.methods[0])
    comparison_page.write(options.out, found)
    print(terminal.wrapped(f"\n{terminal.comparison_text(found)}\n\nTables, plots and page: {options.out}"))
    for job, said in failed.items():
        print(f"error: {job.row.label}, seed {job.seed}: {said} (see {job.log})", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    run_command(main)
