"""Rewriting a generator by a rule, and what that does to images that it has not made yet.

Start with ``generator_rewrite.py``. The rules themselves are problems: :mod:`editable.rewriting.keys`.
"""
