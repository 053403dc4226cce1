"""`python -m segp_ext` says which commands there are."""

import sys

print(
    "usage: python -m segp_ext.COMMAND [--help]\n\n"
    "train     learn a data set task after task, and see the table\n"
    "compare   run several methods and seeds, and compare them\n"
    "predict   name the classes of images with what was learnt\n"
    "doctor    look for what is wrong with an installation or a data set\n"
    "paper     the settings that the paper states, and ours",
    file=sys.stderr if len(sys.argv) > 1 else sys.stdout,
)
sys.exit(2 if len(sys.argv) > 1 else 0)
