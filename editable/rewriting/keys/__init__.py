"""What is asked of a layer: exemplars as keys and values, the directions that they span, and problems made of them.

Start with ``problem.py``, then ``context_keys.py``; ``labelled_keys.py`` asks by labelled images. Images and masks come
from :mod:`editable.data.concepts`.
"""
