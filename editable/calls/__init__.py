"""One call for one thing, in a notebook: correct images, evaluate an editor, rewrite a rule.

These are the names that ``import editable`` offers. They take networks, images and labels as people have them, choose
what they are not told, and say what they chose; nothing is changed until a patch is applied. ``judge.py`` and
``asked.py`` read what is given, ``request.py`` holds it, ``fix.py`` and ``evaluation.py`` are what comes back; what an
edit chooses from is :mod:`editable.editing.choosing`. Start with ``edit.py``.
"""

from editable.calls.edit import edit
from editable.calls.evaluate import evaluate
from editable.calls.evaluation import Evaluation
from editable.calls.fix import Fix
from editable.calls.rewrite import rewrite
from editable.calls.rule import Rule
from editable.editing.choosing.tried import Harm, Tried

__all__ = ["Evaluation", "Fix", "Harm", "Rule", "Tried", "edit", "evaluate", "rewrite"]
