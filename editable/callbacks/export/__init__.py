"""`export`: the tested network, with its patches, on its own in a file that is checked against it.

Start with ``callback.py``; ``outcome.py`` is what comes out, ``report.py`` what is printed of it. The formats are in
:mod:`editable.models.exporting`.
"""

from editable.callbacks.export.callback import NetworkExport
from editable.callbacks.export.outcome import ExportOutcome

__all__ = ["ExportOutcome", "NetworkExport"]
