"""Callbacks: what runs on trained networks through Lightning's loops, and what a run leaves behind."""

from editable.callbacks.applied_patches import AppliedPatches
from editable.callbacks.drawdown_evaluation import DrawdownEvaluation
from editable.callbacks.evaluated_edits import EvaluatedEdits
from editable.callbacks.four_tests import FourTests
from editable.callbacks.generated_samples import GeneratedSamples
from editable.callbacks.generator_report import generator_metrics, write_generator_report
from editable.callbacks.generator_rewriting import GeneratorRewriting
from editable.callbacks.image_edit import ImageEdit
from editable.callbacks.inverse_direction_study import InverseDirectionStudy
from editable.callbacks.learning_rate_search import LearningRateSearch
from editable.callbacks.manipulation import Manipulation
from editable.callbacks.new_class import NewClass
from editable.callbacks.prediction_table import PredictionTable
from editable.callbacks.rank_one_rewrite import RankOneRewrite
from editable.callbacks.run_report import RunReport, write_metrics
from editable.callbacks.seeing import Seeing
from editable.callbacks.spurious_scan import SpuriousScan
from editable.callbacks.subcommand import Subcommand
from editable.callbacks.whitened_extra_layer import WhitenedExtraLayer

__all__ = [
    "AppliedPatches",
    "DrawdownEvaluation",
    "EvaluatedEdits",
    "FourTests",
    "GeneratedSamples",
    "GeneratorRewriting",
    "ImageEdit",
    "InverseDirectionStudy",
    "LearningRateSearch",
    "Manipulation",
    "NewClass",
    "PredictionTable",
    "RankOneRewrite",
    "RunReport",
    "Seeing",
    "SpuriousScan",
    "Subcommand",
    "WhitenedExtraLayer",
    "generator_metrics",
    "write_generator_report",
    "write_metrics",
]
