"""`see`: values of a rewritten layer are traced back to keys, features and images, before and after the rewrite.

Start with ``callback.py``; ``weights.py`` reads the weight of a network that was rewritten elsewhere, ``maps.py``
computes what is drawn over exemplars, ``outcome.py`` is what comes out, ``report.py`` what is printed and drawn of it.
Tracing back is :mod:`editable.rewriting.inverse`, curves and maps are drawn by :mod:`editable.visualize.seeing`.
"""

from editable.callbacks.see.callback import Seeing
from editable.callbacks.see.outcome import SeeingOutcome

__all__ = ["Seeing", "SeeingOutcome"]
