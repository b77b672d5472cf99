"""Reports for people: Markdown, and beside it the same as one page for a browser.

``report.py`` writes both files; ``page.py`` makes the page of the Markdown: one file that has its figures, style and
script in it, so that it can be sent to somebody, with tables that are sorted by a click and figures that open. What a
report says is made by whoever has something to say: a study, or the default run.
"""

from editable.reports.page import page_of
from editable.reports.report import write_report

__all__ = ["page_of", "write_report"]
