"""Edits in tensors that stay where they are, so that a CUDA graph replays each step.

What is no edit does not live here: how graphs are recorded is :mod:`editable.models.machine.graphs`; what a step does
is the editor's. Start with ``static_edits.py``.
"""
