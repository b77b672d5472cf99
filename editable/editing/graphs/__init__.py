"""Edits in tensors that stay where they are, so that a CUDA graph replays each step.

How graphs are recorded is ``editable/models/graphs.py``; what a step does is the editor's. Start with
``static_edits.py``.
"""
