"""The page: one HTML document with its style and script in it, which asks nothing of other hosts."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import NamedTuple

_HERE = Path(__file__).parent
REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"
"""Content security policy of a run's report, which has no script."""


class Page(NamedTuple):
    """The document, and what a browser may load and run for it.

    Attributes:
        html: The document.
        policy: Its content security policy: its own style and script, and requests to its own server.
    """

    html: str
    policy: str


@cache
def page() -> Page:
    """Puts the page together."""
    style, script = ((_HERE / f"page.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    html = (_HERE / "page.html").read_text(encoding="utf-8")
    html = html.replace("/* page.css */", style).replace("/* page.js */", script)
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; img-src blob: data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return Page(html, policy)


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
