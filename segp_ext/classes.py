"""Lists, renames, removes and merges the classes of a saved learner: `segp classes [ACTION] LEARNER`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from segp_ext.method.learner import SeGPCL
from segp_ext.report.class_table import class_table
from segp_ext.report.terminal import aligned
from segp_ext.run.changed_learner import change_learner
from segp_ext.run.saved_learner import find_checkpoint, learner_parser, parsed
from segp_ext.runtime.progress import first_line, plain_warnings, run_command
from segp_ext.storage.checkpoint import read_learner

DESCRIPTION = """\
List the classes of a saved learner: the task that brought each, how many images it was learnt from, and when it was learnt or updated last.
A dash stands for what a learner of segp_ext 0.2 did not keep.

The actions rename, remove and merge change classes without their images; the word stands before LEARNER. Each has its own --help.

Exit status: 0 if the command did its work, 2 if not, 130 after Ctrl-C.

examples:
  python -m segp_ext.classes saved
  python -m segp_ext.classes rename saved lion "old lion"
  python -m segp_ext.classes remove saved lion zebra
  python -m segp_ext.classes merge saved lion "old lion" --into lion
"""
RENAME = """\
Give a class another name. Its prompt is encoded anew; its prototype stays.

examples:
  python -m segp_ext.classes rename saved lion "old lion"
"""
REMOVE = """\
Remove classes. The scores of the other classes stay as they are.

examples:
  python -m segp_ext.classes remove saved lion zebra
"""
MERGE = """\
Make one class of several, as if it had been learnt from all their images.

examples:
  python -m segp_ext.classes merge saved lion "old lion" --into lion
  python -m segp_ext.classes merge runs/NAME cat dog --into pet --out pets
"""


def rename(argv: Sequence[str]) -> int:
    """Renames a class; returns the exit status."""
    parser = _changing_parser("rename", RENAME)
    parser.add_argument("old", metavar="OLD", help="name of the class")
    parser.add_argument("new", metavar="NEW", help="name that it gets")
    options = parsed(parser, argv)
    done = f"renamed {options.old!r} to {options.new!r}"
    return _changed(options, lambda learner: learner.rename_class(options.old, options.new), done)


def remove(argv: Sequence[str]) -> int:
    """Removes classes; returns the exit status."""
    parser = _changing_parser("remove", REMOVE)
    parser.add_argument("names", metavar="NAME", nargs="+", help="names of the classes")
    options = parsed(parser, argv)
    done = f"removed {', '.join(map(repr, options.names))}"
    return _changed(options, lambda learner: learner.remove_classes(options.names), done)


def merge(argv: Sequence[str]) -> int:
    """Merges classes; returns the exit status."""
    parser = _changing_parser("merge", MERGE)
    parser.add_argument("names", metavar="NAME", nargs="+", help="names of two classes or more")
    parser.add_argument("--into", metavar="NAME", required=True, help="name of the merged class")
    options = parsed(parser, argv)
    done = f"merged {', '.join(map(repr, options.names))} into {options.into!r}"
    return _changed(options, lambda learner: learner.merge_classes(options.names, options.into), done)


ACTIONS: dict[str, Callable[[Sequence[str]], int]] = {"rename": rename, "remove": remove, "merge": merge}
"""What may stand before LEARNER, and what runs then."""


def _changing_parser(action: str, description: str) -> argparse.ArgumentParser:
    parser = learner_parser(f"classes {action}", description)
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="folder for the changed learner, where no other learner is (default: LEARNER is replaced)",
    )
    return parser


def _changed(options: argparse.Namespace, change: Callable[[SeGPCL], None], done: str) -> int:
    """Changes a saved learner, and says what was done."""
    try:
        learner, place = change_learner(options.learner, change, options.out, options.pretrained)
    except (OSError, ValueError) as error:
        return _refused(error)
    except KeyboardInterrupt:
        print("interrupted; the learner is as it was", file=sys.stderr)
        return 130
    count = len(learner.class_names)
    print(f"{place}: {done}; the learner has {count} class{'' if count == 1 else 'es'}")
    return 0


def _refused(error: Exception) -> int:
    print(f"error: {first_line(error)}", file=sys.stderr)
    return 2


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: Arguments; by default the process's arguments.

    Returns:
        Exit status, as `DESCRIPTION` says.
    """
    plain_warnings()
    arguments = sys.argv[1:] if argv is None else argv
    if arguments and arguments[0] in ACTIONS:
        return ACTIONS[arguments[0]](arguments[1:])
    parser = learner_parser("classes", DESCRIPTION, loads=False)
    parser.add_argument("--json", action="store_true", help="print a JSON list of objects: name, task, images, learnt")
    options = parsed(parser, arguments)
    try:
        saved = read_learner(find_checkpoint(Path(os.path.expanduser(options.learner))))
    except (OSError, ValueError) as error:
        return _refused(error)
    if options.json:
        print(json.dumps([dataclasses.asdict(record) for record in saved.records], ensure_ascii=False, indent=1))
    else:
        print(aligned(class_table(saved.records)))
    return 0


if __name__ == "__main__":
    run_command(main)
