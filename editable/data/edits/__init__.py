"""Which input shall get which label: streams of edits by seed, and the images that a user asks about.

Start with ``edit_streams.py``. How an edit is made is in :mod:`editable.editing`.
"""
