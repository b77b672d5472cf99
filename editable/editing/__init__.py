"""The Edit operation in plain PyTorch: editors, their update rules, what edits cost, and what they leave.

The rooms are ``editors``, ``linear``, ``rules``, ``evaluation``, ``graphs``, ``bounds``, ``choosing`` and ``patches``;
``locality.py`` is the term of editable training that holds other predictions in place. Nothing here knows Lightning;
rewriting by a rule is :mod:`editable.rewriting`. Start with ``editors/editor.py``.
"""

from editable.editing.bounds.binomial import images_needed, tail_probability, upper_bound
from editable.editing.bounds.candidates import candidate_bounds, certified_in_order
from editable.editing.bounds.harm_budget import Decision, HarmBudget, Spending
from editable.editing.bounds.streams import stream_risk
from editable.editing.editors.ball_editor import BallEditor
from editable.editing.editors.base import BaseEditor, ForwardFunction, Inputs
from editable.editing.editors.editor import Editor
from editable.editing.editors.higher_editor import HigherEditor
from editable.editing.editors.learned_editor import LearnedEditor
from editable.editing.editors.low_rank_editor import LowRankEditor
from editable.editing.editors.objective import MarginObjective
from editable.editing.editors.placing import needs_place, split_for
from editable.editing.editors.preconditioned_editor import PreconditionedEditor
from editable.editing.editors.result import EditResult
from editable.editing.editors.site import EditSite
from editable.editing.editors.strength_search import StrengthSearch
from editable.editing.evaluation.estimate import DrawdownEstimate, merge_estimates
from editable.editing.evaluation.evaluator import EditEvaluator
from editable.editing.evaluation.learning_rates import RateOutcome, choose_learning_rate, learning_rate_grid
from editable.editing.evaluation.outcomes import BasePredictions, EditOutcomes, EditProgress
from editable.editing.evaluation.sampler import DrawdownSampler, Sample
from editable.editing.evaluation.sampling_settings import SamplingSettings
from editable.editing.evaluation.stream import Correction, Cost, Held, StreamEvaluator, StreamState, points_of
from editable.editing.linear.codebook_editor import CodebookEditor
from editable.editing.linear.last_layer import LastLayerRetraining
from editable.editing.linear.minimal_harm import MinimalHarmEditor
from editable.editing.linear.neuron_editor import NeuronEditor
from editable.editing.linear.null_space import NullSpaceEditor
from editable.editing.linear.ridge import RidgeEditor
from editable.editing.locality import kl_locality
from editable.editing.patches.patch import EditPatch
from editable.editing.patches.record import EditRecord, Harm
from editable.editing.rules.adam import Adam
from editable.editing.rules.adaptive_rprop import AdaptiveRProp
from editable.editing.rules.gd import GD
from editable.editing.rules.momentum import Momentum
from editable.editing.rules.rmsprop import RMSProp
from editable.editing.rules.rprop import RProp
from editable.editing.rules.scaled_gd import ScaledGD
from editable.editing.rules.update_rule import Params, State, UpdateRule

__all__ = [
    "GD",
    "Adam",
    "AdaptiveRProp",
    "BallEditor",
    "BaseEditor",
    "BasePredictions",
    "CodebookEditor",
    "Correction",
    "Cost",
    "Decision",
    "DrawdownEstimate",
    "DrawdownSampler",
    "EditEvaluator",
    "EditOutcomes",
    "EditPatch",
    "EditProgress",
    "EditRecord",
    "EditResult",
    "EditSite",
    "Editor",
    "ForwardFunction",
    "Harm",
    "HarmBudget",
    "Held",
    "HigherEditor",
    "Inputs",
    "LastLayerRetraining",
    "LearnedEditor",
    "LowRankEditor",
    "MarginObjective",
    "MinimalHarmEditor",
    "Momentum",
    "NeuronEditor",
    "NullSpaceEditor",
    "Params",
    "PreconditionedEditor",
    "RMSProp",
    "RProp",
    "RateOutcome",
    "RidgeEditor",
    "Sample",
    "SamplingSettings",
    "ScaledGD",
    "Spending",
    "State",
    "StreamEvaluator",
    "StreamState",
    "StrengthSearch",
    "UpdateRule",
    "candidate_bounds",
    "certified_in_order",
    "choose_learning_rate",
    "images_needed",
    "kl_locality",
    "learning_rate_grid",
    "merge_estimates",
    "needs_place",
    "points_of",
    "split_for",
    "stream_risk",
    "tail_probability",
    "upper_bound",
]
