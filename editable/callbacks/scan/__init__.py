"""`scan`: a concept is replaced wherever it is found, and classes are ranked by the harm.

Start with ``callback.py``; ``records.py`` is what was seen of each image so far, and kept for a scan that is
interrupted, ``classes.py`` what that means for each class, ``outcome.py`` what comes out, ``report.py`` what is printed
and drawn of it. Finding a concept and replacing it is in :mod:`editable.rewriting.concepts`.
"""

from editable.callbacks.scan.callback import SpuriousScan
from editable.callbacks.scan.outcome import ScanOutcome

__all__ = ["ScanOutcome", "SpuriousScan"]
