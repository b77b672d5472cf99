"""Rewriting in plain PyTorch: a layer is an associative memory, and an update changes what it recalls for a key.

The rooms are ``memory`` (a layer and its second moment), ``keys`` (what is asked), ``solvers`` (how it is solved),
``layerwise`` (several layers), ``concepts`` (where images show it), ``inverse``, ``new_class`` and ``generators``.
Nothing here knows Lightning; the commands are in :mod:`editable.callbacks`. Start with ``memory/memory.py`` and
``solvers/closed_form.py``.
"""

from editable.rewriting.concepts.concept_finder import ConceptFinder
from editable.rewriting.concepts.concept_replacement import ConceptReplacement, Replaced
from editable.rewriting.concepts.context_finder import ContextFinder
from editable.rewriting.concepts.detector_finder import DetectorFinder
from editable.rewriting.concepts.everywhere_finder import EverywhereFinder
from editable.rewriting.concepts.first_finder import FirstFinder
from editable.rewriting.concepts.mask_finder import MaskFinder
from editable.rewriting.concepts.patch_finder import PatchFinder
from editable.rewriting.concepts.segmentation_finder import SegmentationFinder
from editable.rewriting.generators.generator_outcome import GeneratorOutcome, MatchedContext, measure_generator
from editable.rewriting.generators.generator_rewrite import (
    MOMENT_SEED,
    UNSEEN_SEED,
    GeneratorRewrite,
    rewrite_generator,
)
from editable.rewriting.inverse.inverse_direction import (
    InverseDirection,
    InverseResult,
    InverseUpdate,
    Inversion,
    Survival,
    collect_output_moment,
    inverse_rewrite,
    inverse_update,
    output_keys,
)
from editable.rewriting.inverse.inversion import invert_features, invert_images, num_open_dimensions, reconstruct_keys
from editable.rewriting.inverse.perceptual_distance import (
    PerceptualDistance,
    PerceptualDistanceStandin,
    perceptual_distance,
)
from editable.rewriting.inverse.reconstruction import Reconstruction, ReconstructionSettings, reconstruct
from editable.rewriting.inverse.similarity import masked_similarity, position_similarity
from editable.rewriting.inverse.trace_back import TraceBack, Traced
from editable.rewriting.keys.context_keys import Directions, key_directions, mean_key, resize_mask, span_directions
from editable.rewriting.keys.context_matching import ContextMatches, match_context
from editable.rewriting.keys.erase_problem import EraseRule, channel_scores, erase_problem
from editable.rewriting.keys.exemplars import Exemplars, exemplars_from_features, exemplars_from_images
from editable.rewriting.keys.labelled_keys import LabelledKey, labelled_key
from editable.rewriting.keys.paste_problem import PasteProblem, PasteRule, paste_problem
from editable.rewriting.keys.problem import RewriteProblem
from editable.rewriting.keys.selections import Selection
from editable.rewriting.layerwise.least_squares import LayerwiseLeastSquares
from editable.rewriting.memory.block import LayerBlock
from editable.rewriting.memory.fourier_memory import (
    SpectralMoments,
    Truncation,
    correlate_periodically,
    cut_kernel,
    fourier_least_squares,
    fourier_rewrite,
    place_kernel,
    truncate_kernel,
)
from editable.rewriting.memory.inverse_moment import InverseMoment, Regularisation
from editable.rewriting.memory.memory import Architecture, ConvGeometry, Memory, PatchMemory, PixelMemory, make_memory
from editable.rewriting.memory.moment_cache import cached_second_moment
from editable.rewriting.memory.moment_collection import MomentCost, collect_second_moment, second_moment_cost
from editable.rewriting.memory.output_change import OutputChange, relative_output_changes
from editable.rewriting.memory.second_moment import SecondMoment
from editable.rewriting.memory.transposed_memory import (
    TransposedMemory,
    TransposedPatchMemory,
    TransposedPixelMemory,
    transpose_memory,
)
from editable.rewriting.new_class.class_discriminant import (
    ClassDiscriminant,
    ClassStatistics,
    Discriminant,
    class_statistics,
)
from editable.rewriting.new_class.class_filter import (
    ClassFilter,
    ClassFilterTraining,
    FilterExamples,
    filter_maps,
    make_filter_examples,
)
from editable.rewriting.new_class.class_filter_sweep import SweepOutcome, sweep_negative_weights, train_for_each_weight
from editable.rewriting.new_class.class_vectors import class_vector, compositional_vector, random_vector
from editable.rewriting.new_class.final_features import FinalFeatures
from editable.rewriting.new_class.logit_calibration import LogitCalibration, calibrate_logit
from editable.rewriting.new_class.negatives import NegativeChoice, random_negatives, top_false_positives
from editable.rewriting.solvers.base import Solver
from editable.rewriting.solvers.closed_form import ClosedForm, LowRankUpdate, closed_form_update, least_squares_memory
from editable.rewriting.solvers.fine_tuning import FineTuning
from editable.rewriting.solvers.fourier_closed_form import FourierClosedForm
from editable.rewriting.solvers.lambda_descent import LambdaDescent
from editable.rewriting.solvers.patch_least_squares import (
    PatchLeastSquares,
    constrained_patch_least_squares,
    patch_least_squares,
)
from editable.rewriting.solvers.periodic_change import PeriodicallyChanged, PeriodicRewrite, rewrite_periodically
from editable.rewriting.solvers.plateau import Plateau
from editable.rewriting.solvers.projected_descent import ProjectedDescent, project_change
from editable.rewriting.solvers.result import RewriteResult
from editable.rewriting.solvers.selection import Candidate, choose_candidate, errors_corrected
from editable.rewriting.solvers.smooth_descent import SmoothDescent

__all__ = [
    "MOMENT_SEED",
    "UNSEEN_SEED",
    "Architecture",
    "Candidate",
    "ClassDiscriminant",
    "ClassFilter",
    "ClassFilterTraining",
    "ClassStatistics",
    "ClosedForm",
    "ConceptFinder",
    "ConceptReplacement",
    "ContextFinder",
    "ContextMatches",
    "ConvGeometry",
    "DetectorFinder",
    "Directions",
    "Discriminant",
    "EraseRule",
    "EverywhereFinder",
    "Exemplars",
    "FilterExamples",
    "FinalFeatures",
    "FineTuning",
    "FirstFinder",
    "FourierClosedForm",
    "GeneratorOutcome",
    "GeneratorRewrite",
    "InverseDirection",
    "InverseMoment",
    "InverseResult",
    "InverseUpdate",
    "Inversion",
    "LabelledKey",
    "LambdaDescent",
    "LayerBlock",
    "LayerwiseLeastSquares",
    "LogitCalibration",
    "LowRankUpdate",
    "MaskFinder",
    "MatchedContext",
    "Memory",
    "MomentCost",
    "NegativeChoice",
    "OutputChange",
    "PasteProblem",
    "PasteRule",
    "PatchFinder",
    "PatchLeastSquares",
    "PatchMemory",
    "PerceptualDistance",
    "PerceptualDistanceStandin",
    "PeriodicRewrite",
    "PeriodicallyChanged",
    "PixelMemory",
    "Plateau",
    "ProjectedDescent",
    "Reconstruction",
    "ReconstructionSettings",
    "Regularisation",
    "Replaced",
    "RewriteProblem",
    "RewriteResult",
    "SecondMoment",
    "SegmentationFinder",
    "Selection",
    "SmoothDescent",
    "Solver",
    "SpectralMoments",
    "Survival",
    "SweepOutcome",
    "TraceBack",
    "Traced",
    "TransposedMemory",
    "TransposedPatchMemory",
    "TransposedPixelMemory",
    "Truncation",
    "cached_second_moment",
    "calibrate_logit",
    "channel_scores",
    "choose_candidate",
    "class_statistics",
    "class_vector",
    "closed_form_update",
    "collect_output_moment",
    "collect_second_moment",
    "compositional_vector",
    "constrained_patch_least_squares",
    "correlate_periodically",
    "cut_kernel",
    "erase_problem",
    "errors_corrected",
    "exemplars_from_features",
    "exemplars_from_images",
    "filter_maps",
    "fourier_least_squares",
    "fourier_rewrite",
    "inverse_rewrite",
    "inverse_update",
    "invert_features",
    "invert_images",
    "key_directions",
    "labelled_key",
    "least_squares_memory",
    "make_filter_examples",
    "make_memory",
    "masked_similarity",
    "match_context",
    "mean_key",
    "measure_generator",
    "num_open_dimensions",
    "output_keys",
    "paste_problem",
    "patch_least_squares",
    "perceptual_distance",
    "place_kernel",
    "position_similarity",
    "project_change",
    "random_negatives",
    "random_vector",
    "reconstruct",
    "reconstruct_keys",
    "relative_output_changes",
    "resize_mask",
    "rewrite_generator",
    "rewrite_periodically",
    "second_moment_cost",
    "span_directions",
    "sweep_negative_weights",
    "top_false_positives",
    "train_for_each_weight",
    "transpose_memory",
    "truncate_kernel",
]
