"""A layer's weight as an associative memory: matrix views of it, the block around it, and second moments of its keys.

Start with ``memory.py``, then ``second_moment.py`` and ``inverse_moment.py``. What is asked of a memory is in
:mod:`editable.rewriting.keys`, how it is solved in :mod:`editable.rewriting.solvers`.
"""
