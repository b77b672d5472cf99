"""`search`: the learning rate at which an editor does least harm, on held-out edits.

Start with ``callback.py``; ``outcome.py`` is what comes out, ``report.py`` what is printed and drawn of it, and
``unfinished.py`` what an interrupted search is resumed from. Which rates are tried, and which of them is the best, is
:mod:`editable.editing.evaluation.learning_rates`; the edits are made and scored as in a drawdown evaluation.
"""

from editable.callbacks.search.callback import LearningRateSearch
from editable.callbacks.search.outcome import SearchOutcome

__all__ = ["LearningRateSearch", "SearchOutcome"]
