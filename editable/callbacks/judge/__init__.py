"""`judge`: four tests of an edited network beside the unedited one, on random, confusing and mislabelled images.

Start with ``callback.py``; ``image_sets.py`` chooses the images, ``outcome.py`` is what comes out, ``report.py``
what is printed and drawn of it.
"""

from editable.callbacks.judge.callback import FourTests

__all__ = ["FourTests"]
