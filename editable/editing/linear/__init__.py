"""Editors without gradients: they change one linear layer by a formula or a convex program, or keep a memory behind it.

``linear_layer.py`` is what such a layer reads and writes; one editor a file, and ``least_squares.py`` is what
``ridge.py`` and ``null_space.py`` share. They follow the contract of
:class:`~editable.editing.BaseEditor`. Start with ``minimal_harm.py``, whose docstring has the program.
"""
