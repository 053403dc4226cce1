"""`python -m segp_ext` says which commands there are."""

import sys

from segp_ext import COMMANDS

print(
    "usage: python -m segp_ext.COMMAND [--help]\n",
    *(f"{name:9} {meaning}" for name, meaning in COMMANDS.items()),
    sep="\n",
    file=sys.stderr if len(sys.argv) > 1 else sys.stdout,
)
sys.exit(2 if len(sys.argv) > 1 else 0)
