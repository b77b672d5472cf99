"""A report that is drawn again from its outcome is the one that the run has left."""

from collections.abc import Sequence
from pathlib import Path

__all__ = ["assert_drawn_again"]


def assert_drawn_again(sections: Sequence[str], again: Path, run: Path) -> None:
    """Assert that sections are in the report of a run, and that files are byte for byte those of its folder.

    Args:
        sections: What was written again.
        again: The folder with the files that belong to them, and nothing else.
        run: The run's folder.
    """
    assert "\n".join(sections) in (run / "report.md").read_text(encoding="utf-8")
    files = [path for path in again.rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert path.read_bytes() == (run / path.relative_to(again)).read_bytes(), path.name
