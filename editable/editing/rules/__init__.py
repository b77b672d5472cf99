"""Update rules of the Edit operation: one pure pair ``init``, ``update`` a file.

Start with ``update_rule.py``, the contract, then ``gd.py``. The loop that repeats a rule is in
:mod:`editable.editing.editors`.
"""
