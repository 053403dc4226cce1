"""`python -m segp_ext` says which commands there are."""

import sys

from segp_ext import COMMANDS

refused = sys.argv[1:] not in ([], ["-h"], ["--help"])
print(
    "usage: python -m segp_ext.COMMAND [--help]\n",
    *(f"{name:9} {meaning}" for name, meaning in COMMANDS.items()),
    sep="\n",
    file=sys.stderr if refused else sys.stdout,
)
sys.exit(2 if refused else 0)
