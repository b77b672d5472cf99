"""Rewriting: a layer is an associative memory, and a low-rank update changes what it recalls for a key."""

from editable.rewriting.block import LayerBlock
from editable.rewriting.context_keys import Directions, key_directions, mean_key, resize_mask, span_directions
from editable.rewriting.context_matching import ContextMatches, match_context
from editable.rewriting.exemplars import Exemplars, exemplars_from_features, exemplars_from_images
from editable.rewriting.inverse_moment import InverseMoment, Regularisation
from editable.rewriting.memory import Architecture, ConvGeometry, Memory, PatchMemory, PixelMemory, make_memory
from editable.rewriting.moment_cache import cached_second_moment
from editable.rewriting.moment_collection import MomentCost, collect_second_moment, second_moment_cost
from editable.rewriting.plateau import Plateau
from editable.rewriting.problem import RewriteProblem
from editable.rewriting.result import RewriteResult
from editable.rewriting.second_moment import SecondMoment
from editable.rewriting.selection import Candidate, choose_candidate, errors_corrected
from editable.rewriting.solvers import (
    ClosedForm,
    FineTuning,
    LambdaDescent,
    LowRankUpdate,
    ProjectedDescent,
    SmoothDescent,
    Solver,
    closed_form_update,
    least_squares_memory,
    project_change,
)

__all__ = [
    "Architecture",
    "Candidate",
    "ClosedForm",
    "ContextMatches",
    "ConvGeometry",
    "Directions",
    "Exemplars",
    "FineTuning",
    "InverseMoment",
    "LambdaDescent",
    "LayerBlock",
    "LowRankUpdate",
    "Memory",
    "MomentCost",
    "PatchMemory",
    "PixelMemory",
    "Plateau",
    "ProjectedDescent",
    "Regularisation",
    "RewriteProblem",
    "RewriteResult",
    "SecondMoment",
    "SmoothDescent",
    "Solver",
    "cached_second_moment",
    "choose_candidate",
    "closed_form_update",
    "collect_second_moment",
    "errors_corrected",
    "exemplars_from_features",
    "exemplars_from_images",
    "key_directions",
    "least_squares_memory",
    "make_memory",
    "match_context",
    "mean_key",
    "project_change",
    "resize_mask",
    "second_moment_cost",
    "span_directions",
]
