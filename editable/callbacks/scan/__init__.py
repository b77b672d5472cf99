"""`scan`: a concept is replaced wherever it is found, and classes are ranked by the harm.

Start with ``callback.py``; ``records.py`` is what was seen of each image so far, ``classes.py`` what that means for
each class, ``outcome.py`` what comes out, ``report.py`` what is printed and drawn of it.
"""

from editable.callbacks.scan.callback import SpuriousScan

__all__ = ["SpuriousScan"]
