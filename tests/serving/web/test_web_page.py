"""The page asks nothing of other hosts, and shows texts as texts."""

from __future__ import annotations

import base64
import hashlib
import re

from segp_ext.serving.web.page import page


def test_nothing_is_loaded_from_elsewhere():
    html = page().html
    assert not re.search(r"https?:|//[a-z]|@import|url\(", re.sub(r"^\s*//.*$", "", html, flags=re.MULTILINE))
    assert "/* page." not in html


def test_a_browser_runs_this_script_and_style_alone():
    html, policy = page()
    for tag, directive in (("script", "script-src"), ("style", "style-src")):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}';" in policy
    assert "unsafe" not in policy and "default-src 'none'" in policy
    assert not re.search(r"\son\w+=|\sstyle=", html.partition("<script>")[0])  # the policy would refuse them


def test_texts_are_never_read_as_html():
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", page().html)
