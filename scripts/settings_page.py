"""Makes docs/settings.md: what the paper states of each setting, and what is ours.

python scripts/settings_page.py > docs/settings.md
"""

from __future__ import annotations

import dataclasses
import sys

from segp_ext.config import Config, dotted
from segp_ext.config.paper import BESIDE_SETTINGS, OTHER_VALUES, OURS, PAPER, shown
from segp_ext.report.page import markdown_table


def page() -> str:
    """docs/settings.md: both tables."""
    values = dotted(dataclasses.asdict(Config()))
    stated = [[f"`{name}`", shown(s.value), s.where] for name, s in PAPER.items()]
    ours = [[f"`{name}`", shown(values[name]), o.why, o.measured or "–"] for name, o in OURS.items()]
    other = [[f"`{name}`", o.why, o.measured or "–"] for name, o in OTHER_VALUES.items()]
    beside = [[name, o.why, o.measured or "–"] for name, o in BESIDE_SETTINGS.items()]
    return f"""\
# Settings: the paper's and ours

Defaults are the paper's (SeGP-CL, arXiv 2603.12055, v1) wherever it states a value. `python scripts/settings_page.py` makes this page
from the tables in the code; a test compares both with the defaults.

## What the paper states

{markdown_table([["setting", "default", "where in the paper"], *stated], numbers=False)}

## Settings of our own

On these the paper is silent, or they go beyond it.

{markdown_table([["setting", "default", "what for", "measured in"], *ours], numbers=False)}

## Other values of settings on which the paper states one

They are for comparison, or for other models and data. The paper has some of them too, as its own variants.

{markdown_table([["value", "what it is", "measured in"], *other], numbers=False)}

## Choices without a setting

{markdown_table([["choice", "why", "measured in"], *beside], numbers=False)}
"""


if __name__ == "__main__":
    sys.stdout.write(page())
