"""Which input shall get which label: edits by seed or from a user's table, and images that a user asks about.

Start with ``edit_streams.py``. How an edit is made is in :mod:`editable.editing`.
"""
