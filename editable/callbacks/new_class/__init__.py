"""`new_class`: a class that the network has never seen, from a few images.

Start with ``callback.py``; ``trial.py`` and ``training.py`` are one draw of examples, ``outcome.py`` what comes out,
``report.py`` what is printed and drawn of it. Filters and baselines are in :mod:`editable.rewriting.new_class`.
"""

from editable.callbacks.new_class.callback import NewClass

__all__ = ["NewClass"]
