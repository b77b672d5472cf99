from editable import data as data
from editable import editing as editors
from editable import models as models
from editable import rewriting as rewriting
from editable.calls import Evaluation as Evaluation
from editable.calls import Fix as Fix
from editable.calls import Rule as Rule
from editable.calls import edit as edit
from editable.calls import evaluate as evaluate
from editable.calls import rewrite as rewrite
from editable.editing import EditPatch as Patch
from editable.models import load_weights as load_weights

__all__ = [
    "Evaluation",
    "Fix",
    "Patch",
    "Rule",
    "data",
    "edit",
    "editors",
    "evaluate",
    "load_weights",
    "models",
    "rewrite",
    "rewriting",
]
