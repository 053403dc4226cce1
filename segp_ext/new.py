"""Makes a learner and teaches it its first classes: `segp new LEARNER FOLDER`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from segp_ext.clip.pretrained import load_clip
from segp_ext.config import Config
from segp_ext.method.learner import SeGPCL
from segp_ext.run.arguments import joined
from segp_ext.run.command_line import parse
from segp_ext.run.learning_command import PROGRESS, ended, learn_and_save, say
from segp_ext.runtime.program import program
from segp_ext.runtime.progress import plain_warnings, progress_in_lines, run_command
from segp_ext.storage.checkpoint import check_place
from segp_ext.storage.learner_lock import held_alone

DESCRIPTION = """\
Make a learner in the folder LEARNER, and let it learn its first classes. FOLDER holds a folder of images for each class. Later folders are
learnt by `segp learn`.

The settings are those of `train`; of the data set's, only --data.names and --data.descriptions. --config clip takes CLIP ViT-B/16, for
photographs; the default is the small model of this package.
The default method is auto: it trains the model, keeps a head on the frozen model too, and lets images held back from training choose.
--method rda learns the frozen head alone, in seconds.

examples:
  python -m segp_ext.new animals photos/2026-01
  python -m segp_ext.new animals photos/2026-01 --config clip
  python -m segp_ext.new animals photos/2026-01 --method rda
"""
FLAGS = {"--progress": PROGRESS}


def read_options(argv: Sequence[str]) -> tuple[Path, Path, Config, bool]:
    """Reads the command line; exits with a message on an argument that does not fit.

    Returns:
        The learner's folder, the folder of images, the settings, and whether progress is printed in lines.
    """
    arguments = joined(argv)
    places = [argument for argument in arguments if not argument.startswith("-")]
    others = [argument for argument in arguments if argument.startswith("-")]
    for name in ("--names", "--descriptions"):
        if name in {argument.partition("=")[0] for argument in others}:
            raise ValueError(
                f"{name} is an option of learn; new takes the settings of runs: --data{name.replace('--', '.')}"
            )
    helps = {"-h", "--help", "--help=all"} & {*others}
    if len(places) != 2 and not helps:
        parser = argparse.ArgumentParser(
            usage=f"{program('new')} LEARNER FOLDER [--SETTING VALUE ...]", prog=program("new")
        )
        parser.error(f"LEARNER and FOLDER are needed; got {' '.join(places) or 'neither'}")
    _refuse_data_settings(others)
    given = [f"--data.root={places[1] if len(places) == 2 else 'FOLDER'}"]
    if not any(argument.startswith("--method=") for argument in others):
        given.append("--method=auto")
    config = parse([*given, *others], "new", DESCRIPTION, FLAGS)
    return Path(os.path.expanduser(places[0])), Path(os.path.expanduser(places[1])), config, "--progress" in others


def _refuse_data_settings(arguments: Sequence[str]) -> None:
    """Refuses settings of a data set that is split into tasks, which would do nothing here.

    Raises:
        ValueError: Naming the setting.
    """
    for argument in arguments:
        name = argument.partition("=")[0]
        taken = ("--data.names", "--data.descriptions")
        if name.startswith(("--data.", "--held_out", "--run.")) and name not in taken:
            raise ValueError(
                f"{name} is a setting of runs; new learns all images of FOLDER, named as --data.names says and "
                "described by --data.descriptions"
            )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: Arguments; by default the process's arguments.

    Returns:
        Exit status: 0 if all classes were learnt, 1 if some were refused, 2 if nothing was learnt; 130 after Ctrl-C, 143 after SIGTERM.
    """
    plain_warnings()
    try:
        place, folder, config, lines = read_options([*(sys.argv[1:] if argv is None else argv)])
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    with progress_in_lines(lines):
        return ended(partial(_new, place, folder, config), "--training.accumulate 4 needs less")


def _new(place: Path, folder: Path, config: Config) -> int:
    out, model = place.absolute(), config.model
    with held_alone(out):
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise FileExistsError(
                f"{place} is there already; `{program('learn')} {place} {folder}` lets a learner learn more"
            )
        check_place(out)
        learner = SeGPCL(
            load_clip(
                model.name,
                model.pretrained,
                model.device,
                resize_mode=model.resize_mode,
                precision=model.precision,
                compile=model.compile,
            ),
            config,
        )
        whole = learn_and_save(learner, folder, config.data.names, "refuse", out, None, config.data.descriptions)
    say(
        f"saved to {place}; `{program('predict')} {place} PHOTO` names images, `{program('learn')} {place} FOLDER` learns more"
    )
    return 0 if whole else 1


if __name__ == "__main__":
    run_command(main)
