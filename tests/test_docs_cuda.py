"""docs/cuda.md has the table that its command prints."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_the_budget_is_the_command_s():
    printed = subprocess.run(
        [sys.executable, ROOT / "scripts/fused_budget.py"], capture_output=True, text=True, check=True
    ).stdout
    page = (ROOT / "docs/cuda.md").read_text()
    assert page.partition("<!-- budget -->\n")[2].partition("<!-- /budget -->")[0] == printed
