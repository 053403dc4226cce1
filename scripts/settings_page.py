"""Makes docs/settings.md from the facts about every setting: `python scripts/settings_page.py > docs/settings.md`."""

from __future__ import annotations

import dataclasses
import sys

from segp_ext.config import Config, dotted
from segp_ext.config.paper import BESIDE_SETTINGS, OTHER_VALUES, shown
from segp_ext.config.setting import facts_of
from segp_ext.report.table import markdown_table


def page() -> str:
    """Returns the content of docs/settings.md."""
    facts = facts_of(Config)
    value = {name: shown(default) for name, default in dotted(dataclasses.asdict(Config())).items()}
    stated = [[f"`{name}`", value[name], f.paper] for name, f in facts.items() if f.paper]
    ours = [[f"`{name}`", value[name], f.ours, f.measured or "–"] for name, f in facts.items() if f.ours]
    other = [[f"`{name}`", choice.why, choice.measured or "–"] for name, choice in OTHER_VALUES.items()]
    beside = [[name, choice.why, choice.measured or "–"] for name, choice in BESIDE_SETTINGS.items()]
    resume = [f"`{name}`" for name, f in facts.items() if f.resume]
    protocol = [f"`{name}`" for name, f in facts.items() if f.protocol]
    return f"""\
# Settings: the paper's and ours

Defaults are the paper's (SeGP-CL, arXiv 2603.12055, v1) wherever it states a value. `python scripts/settings_page.py` makes this page
from the code, and a test compares the two. `python -m segp_ext.train --help all` says what every setting means.

## Settings with a value in the paper

{markdown_table([["setting", "default", "where in the paper"], *stated], numbers=False)}

## Settings of our own

The paper is silent about these settings, or they go beyond it.

{markdown_table([["setting", "default", "what for", "measured in"], *ours], numbers=False)}

## Other values of settings with a value in the paper

They serve comparisons, or other models and data. Some are variants in the paper as well.

{markdown_table([["value", "meaning", "measured in"], *other], numbers=False)}

## Choices without a setting

{markdown_table([["choice", "why", "measured in"], *beside], numbers=False)}

## Settings that may change on `--resume`

They change what is learnt only by rounding: {", ".join(resume)}.

## Settings of protocols

A protocol sets them or keeps them as they are. With another value, the id of a result says "+changed": {", ".join(protocol)}.
"""


if __name__ == "__main__":
    sys.stdout.write(page())
