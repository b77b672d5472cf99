"""What is asked of a layer: exemplars as keys and values, the directions that they span, and problems made of them.

Start with ``problem.py``, then ``context_keys.py``. Images and masks come from :mod:`editable.data.concepts`.
"""
