"""`edit`: images of one's own get the labels asked for, and the edit is kept as a patch where it costs little.

Start with ``callback.py``; ``outcome.py`` is what comes out, ``report.py`` what is printed and drawn of it. The edit is
made by an editor of :mod:`editable.editing.editors`.
"""

from editable.callbacks.edit.callback import ImageEdit
from editable.callbacks.edit.outcome import ImageEditOutcome

__all__ = ["ImageEdit", "ImageEditOutcome"]
