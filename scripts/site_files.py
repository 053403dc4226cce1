"""Hooks of MkDocs that mkdocs.yml names: they add files that pages link to, and refuse a site that loads anything from another host.

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
"""Pattern of a link from a page in docs/ to a file outside docs/."""
LOADED = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["']?(?:https?:)?//|<link\b[^>]*\bhref=["']?(?:https?:)?//[^>]*>"""
)
"""Pattern of an HTML element that makes a browser load something from another host."""


def site_name(path: str) -> str:
    """Returns a file's path in the site, from its path in the checkout.

    A Markdown file gets the ending .txt, as it is not a page of the site.
    """
    return f"files/{path}.txt" if path.endswith(".md") else f"files/{path}"


def on_files(files: Any, config: Any) -> Any:
    """Adds the files that pages link to; MkDocs calls this with all files of the site."""
    for page in files.documentation_pages():
        for path in LINK.findall(Path(page.abs_src_path).read_text(encoding="utf-8")):
            if (ROOT / path).is_file() and files.get_file_from_path(site_name(path)) is None:
                files.append(File.generated(config, site_name(path), abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Points links to files outside docs/ at their copies in the site; MkDocs reports links whose copy is missing."""
    return LINK.sub(lambda link: site_name(link[1]), markdown)


def on_post_build(config: Any) -> None:
    """Refuses a site that would load something from another host.

    Raises:
        PluginError: names the page and the element.
    """
    for page in sorted(Path(config.site_dir).rglob("*.html")):
        for found in LOADED.findall(page.read_text(encoding="utf-8")):
            if 'rel="canonical"' not in found:
                raise PluginError(f"{page.relative_to(config.site_dir)} loads something from another host: {found}")
