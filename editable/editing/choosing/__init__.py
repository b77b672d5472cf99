"""Which editor, of those that fit a network, costs least: each makes the same edit, and images tell what it costs.

``candidates.py`` has the editors and where they work, ``trials.py`` makes their edits, ``tried.py`` is what is told of
each and what is chosen. What is asked for, and which images judge, is for callers to say. Start with ``trials.py``.
"""
