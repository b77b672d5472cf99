"""`judge`: four tests of an edited network beside the unedited one, on random, confusing and mislabelled images.

Start with ``callback.py``; ``image_sets.py`` chooses the images, ``judged_images.py`` counts what both networks make of
them, ``unfinished.py`` keeps that for an interrupted run, ``outcome.py`` is what comes out, ``report.py`` what is
printed and drawn of it. The metrics themselves are in :mod:`editable.metrics`, finding and replacing a concept in
:mod:`editable.rewriting.concepts`.
"""

from editable.callbacks.judge.callback import FourTests
from editable.callbacks.judge.outcome import FourTestsOutcome

__all__ = ["FourTests", "FourTestsOutcome"]
