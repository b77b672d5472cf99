"""`invert`: a rule put into a layer forwards, backwards and in the Fourier domain: does it survive, and at what cost?

Start with ``callback.py``; ``methods.py`` has the ways, ``outcome.py`` what comes out, ``report.py`` what is printed
and drawn of it. The mathematics is in :mod:`editable.rewriting.inverse`, figures are drawn by
:mod:`editable.visualize.inverse`.
"""

from editable.callbacks.invert.callback import InverseDirectionStudy
from editable.callbacks.invert.outcome import InverseDirectionOutcome

__all__ = ["InverseDirectionOutcome", "InverseDirectionStudy"]
