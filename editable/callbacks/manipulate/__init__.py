"""`manipulate`: a concept is replaced in all test images that show it, and what comes out is kept as an image folder.

Start with ``callback.py``; ``unfinished_folder.py`` is the folder while it is made, ``outcome.py`` what comes out,
``report.py`` what is printed and drawn of it. Finding and replacing a concept is in :mod:`editable.rewriting.concepts`,
the finished folder and its manifest in :mod:`editable.data`.
"""

from editable.callbacks.manipulate.callback import Manipulation
from editable.callbacks.manipulate.outcome import ManipulationOutcome

__all__ = ["Manipulation", "ManipulationOutcome"]
