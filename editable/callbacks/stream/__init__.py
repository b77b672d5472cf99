"""`stream`: many corrections of one network, each on top of the last or all together, and what holds of them.

Start with ``callback.py``; ``parts.py`` says which images are corrected and which judge, ``outcome.py`` what comes out,
``report.py`` what is written and drawn of it, and ``unfinished.py`` what an interrupted stream is resumed from. The
corrections are made and scored in plain PyTorch, by :mod:`editable.editing.evaluation`.
"""

from editable.callbacks.stream.callback import CorrectionStream
from editable.callbacks.stream.outcome import StreamOutcome

__all__ = ["CorrectionStream", "StreamOutcome"]
