"""`new_class`: a class that the network has never seen, from a few images.

Start with ``callback.py``. ``trial.py`` says what one draw of examples is, ``training.py`` makes it, ``look.py`` runs
images through the network and new filters, ``judging.py`` holds the new logits against test images, ``maps.py`` has a
filter's maps of its examples, and ``grown_files.py`` keeps the grown network. ``outcome.py`` is what comes out,
``report.py`` what is printed and drawn of it. Filters and baselines are in :mod:`editable.rewriting.new_class`.
"""

from editable.callbacks.new_class.callback import NewClass
from editable.callbacks.new_class.outcome import NewClassOutcome

__all__ = ["NewClass", "NewClassOutcome"]
