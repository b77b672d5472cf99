"""The Edit operation: update rules, edit objective, editors, and the locality term that trains for them."""

from editable.editing.base import BaseEditor, ForwardFunction, Inputs
from editable.editing.edit_patch import EditPatch, EditRecord
from editable.editing.editor import Editor
from editable.editing.evaluation import BasePredictions, EditEvaluator, EditOutcomes, SamplingSettings
from editable.editing.higher_editor import HigherEditor
from editable.editing.learning_rates import RateOutcome, choose_learning_rate, learning_rate_grid
from editable.editing.locality import kl_locality
from editable.editing.objective import MarginObjective
from editable.editing.result import EditResult
from editable.editing.rules import (
    GD,
    Adam,
    AdaptiveRProp,
    Momentum,
    Params,
    RMSProp,
    RProp,
    ScaledGD,
    State,
    UpdateRule,
)
from editable.editing.sampling import DrawdownEstimate, DrawdownSampler, Sample, merge_estimates

__all__ = [
    "GD",
    "Adam",
    "AdaptiveRProp",
    "BaseEditor",
    "BasePredictions",
    "DrawdownEstimate",
    "DrawdownSampler",
    "EditEvaluator",
    "EditOutcomes",
    "EditPatch",
    "EditRecord",
    "EditResult",
    "Editor",
    "ForwardFunction",
    "HigherEditor",
    "Inputs",
    "MarginObjective",
    "Momentum",
    "Params",
    "RMSProp",
    "RProp",
    "RateOutcome",
    "Sample",
    "SamplingSettings",
    "ScaledGD",
    "State",
    "UpdateRule",
    "choose_learning_rate",
    "kl_locality",
    "learning_rate_grid",
    "merge_estimates",
]
