"""`few_shot`: a rule is made from a few labelled photographs, and tested on photographs of classes that made nothing.

Start with ``callback.py``. ``ways.py`` has the ways to make a rule, ``lots.py`` which photographs make one and which
test it; ``workbench.py`` makes and tests them. ``outcome.py`` is what comes out, ``report.py`` what is printed and
drawn of it. The mathematics is in the rooms ``keys`` and ``solvers`` of :mod:`editable.rewriting`, and in
:mod:`editable.editing`.
"""

from editable.callbacks.few_shot.callback import FewShotRules
from editable.callbacks.few_shot.outcome import FewShotOutcome

__all__ = ["FewShotOutcome", "FewShotRules"]
