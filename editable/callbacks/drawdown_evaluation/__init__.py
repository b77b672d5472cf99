"""Drawdown evaluation: many edits of a trained network, each from the start, and what each costs on other inputs.

A part of every run (options ``--evaluation.…``). Start with ``callback.py``; ``outcome.py`` is what comes out,
``report.py`` what is written and drawn of it. The edits are made and scored in plain PyTorch, by
:mod:`editable.editing.evaluation`.
"""

from editable.callbacks.drawdown_evaluation.callback import DrawdownEvaluation
from editable.callbacks.drawdown_evaluation.outcome import EvaluatedEdits

__all__ = ["DrawdownEvaluation", "EvaluatedEdits"]
