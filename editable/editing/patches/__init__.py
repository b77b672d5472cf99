"""What an edit leaves: a patch that is kept in a file, put into the network that it was made for, and taken out again.

``patch.py`` is the patch; ``coding.py`` holds a changed tensor in few bytes, ``record.py`` what was asked, ``file.py``
reads and writes the format of ``docs/patch-format.md``, ``on_states.py`` works on state dicts without a network,
``stack.py`` merges patches and drops one edit of several, ``rows.py`` knows whose a row is, ``correction_log.py`` keeps
the log. Networks are loaded and edits made elsewhere. Start with ``patch.py``.
"""
