"""Update rules of the Edit operation: one pure pair ``init``, ``update`` a file.

Start with ``update_rule.py``, the contract and what rules share, then ``gd.py``; ``decay_rule.py`` is the base of those
with a decay constant. The loop that repeats a rule is in :mod:`editable.editing.editors`.
"""
