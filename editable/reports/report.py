"""A report in two files: Markdown, and the same as one page for a browser."""

from pathlib import Path

from editable.atomic import write_atomically
from editable.reports.page import page_of

__all__ = ["write_report"]


def write_report(path: str | Path, text: str) -> None:
    """Write a report as Markdown, and beside it, with ``.html``, as one page that has its figures in it.

    Both files are written whole or not at all, and replace older ones.

    Args:
        path: The Markdown file.
        text: Markdown, whose links are relative to the file's folder; what it shows has to be there.
    """
    path = Path(path)
    page = page_of(text, path.parent)
    for file, content in ((path, text), (path.with_suffix(".html"), page)):
        with write_atomically(file) as temporary:
            temporary.write_text(content, encoding="utf-8")
