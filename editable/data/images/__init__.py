"""Single images before they become batches: the one reader of files, which pixels a network sees, and normalisation.

Start with ``images.py``. Which images make up a data set, and in what order, is in :mod:`editable.data.modules`.
"""
