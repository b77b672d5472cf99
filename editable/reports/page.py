"""A page for a browser, made of Markdown: one file that needs no other one."""

import re
from base64 import b64encode
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

__all__ = ["page_of"]

KINDS = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif", ".webp": "image/webp"}
"""Pictures that become part of the page, by the ends of their names."""


def page_of(text: str, folder: str | Path) -> str:
    """Return a page that shows a report in Markdown (CommonMark with tables), whole in itself.

    Pictures that lie at relative paths become part of it; a link to another report leads to that one's page; HTML in
    the text is shown as text. A click on a column's head sorts a table by it, a click on a picture opens it.

    Args:
        text: The report; its first heading is the page's title.
        folder: What its relative paths start from.
    """
    from markdown_it import MarkdownIt  # no command needs it to begin

    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(text)
    for inline in (child for token in tokens for child in token.children or ()):
        if inline.type == "image":
            inline.attrSet("src", _embedded(str(inline.attrGet("src")), Path(folder)))
        elif inline.type == "link_open":
            inline.attrSet("href", re.sub(r"(^|/)report\.md(?=$|#)", r"\1report.html", str(inline.attrGet("href"))))
    body = parser.renderer.render(tokens, parser.options, {})
    style, script = (
        files("editable.reports").joinpath("page", name).read_text("utf-8") for name in ("page.css", "page.js")
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(_title(tokens))}</title>\n<style>\n{style}</style>\n</head>\n"
        f"<body>\n<main>\n{body}</main>\n<script>\n{script}</script>\n</body>\n</html>\n"
    )


def _embedded(address: str, folder: Path) -> str:
    """Return a picture's address, with what it holds in place of the path where it lies below the folder."""
    parts = urlsplit(address)
    kind = KINDS.get(Path(parts.path).suffix.lower())
    path = folder / unquote(parts.path)
    if parts.scheme or parts.netloc or kind is None or not path.is_file():
        return address
    return f"data:{kind};base64,{b64encode(path.read_bytes()).decode('ascii')}"


def _title(tokens: Sequence[Any]) -> str:
    """Return the text of the first heading of parsed Markdown, without its marks."""
    for opened, inside in pairwise(tokens):
        if opened.type == "heading_open":
            return "".join(child.content for child in inside.children or ())
    return "Report"
