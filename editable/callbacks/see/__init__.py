"""`see`: values of a rewritten layer are traced back to keys, features and images, before and after the rewrite.

Start with ``callback.py``; ``outcome.py`` is what comes out, ``report.py`` what is printed and drawn of it. Tracing
back is :mod:`editable.rewriting.inverse`.
"""

from editable.callbacks.see.callback import Seeing

__all__ = ["Seeing"]
