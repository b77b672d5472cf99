"""A layer read backwards: rewrites in the inverse direction, and values traced back to keys, features and images.

Start with ``inverse_direction.py`` for rewrites, ``inversion.py`` for tracing back. The transposed memories themselves
are in :mod:`editable.rewriting.memory`.
"""
