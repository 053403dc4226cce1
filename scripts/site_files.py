"""What mkdocs.yml adds to MkDocs: files of the checkout that pages link to, and a site that asks no other host for anything.

A page may link to a file outside docs/, as `../evidence/README.md`. The site gets a copy of that file under files/.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(?<=\]\()\.\./([^)#\s]+)(?=[)#])")
"""A link from a page in docs/ to a file outside it."""
LOADED = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["']?(?:https?:)?//|<link\b[^>]*\bhref=["']?(?:https?:)?//[^>]*>"""
)
"""What a browser would load from another host."""


def site_name(path: str) -> str:
    """Returns the place in the site of a file of the checkout; Markdown becomes plain text, as it is no page."""
    return f"files/{path}.txt" if path.endswith(".md") else f"files/{path}"


def on_files(files: Any, config: Any) -> Any:
    """Adds the files that pages link to."""
    for page in files.documentation_pages():
        for path in LINK.findall(Path(page.abs_src_path).read_text(encoding="utf-8")):
            if (ROOT / path).is_file() and files.get_file_from_path(site_name(path)) is None:
                files.append(File.generated(config, site_name(path), abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Points links to these files at their places in the site; MkDocs names those that are not there."""
    return LINK.sub(lambda link: site_name(link[1]), markdown)


def on_post_build(config: Any) -> None:
    """Refuses a site that would load something from another host.

    Raises:
        PluginError: naming the page.
    """
    for page in sorted(Path(config.site_dir).rglob("*.html")):
        for found in LOADED.findall(page.read_text(encoding="utf-8")):
            if 'rel="canonical"' not in found:
                raise PluginError(f"{page.relative_to(config.site_dir)} loads something from another host: {found}")
