"""`search`: the learning rate at which an editor does least harm, on held-out edits.

Start with ``callback.py``; ``outcome.py`` is what comes out, ``report.py`` what is printed and drawn of it.
"""

from editable.callbacks.search.callback import LearningRateSearch

__all__ = ["LearningRateSearch"]
