"""Callbacks: what runs on trained networks through Lightning's loops, and what a run leaves behind."""

from editable.callbacks.drawdown_evaluation import DrawdownEvaluation
from editable.callbacks.evaluated_edits import EvaluatedEdits
from editable.callbacks.generated_samples import GeneratedSamples
from editable.callbacks.generator_report import generator_metrics, write_generator_report
from editable.callbacks.generator_rewriting import GeneratorRewriting
from editable.callbacks.learning_rate_search import LearningRateSearch
from editable.callbacks.prediction_table import PredictionTable
from editable.callbacks.rank_one_rewrite import RankOneRewrite
from editable.callbacks.run_report import RunReport, write_metrics
from editable.callbacks.subcommand import Subcommand

__all__ = [
    "DrawdownEvaluation",
    "EvaluatedEdits",
    "GeneratedSamples",
    "GeneratorRewriting",
    "LearningRateSearch",
    "PredictionTable",
    "RankOneRewrite",
    "RunReport",
    "Subcommand",
    "generator_metrics",
    "write_generator_report",
    "write_metrics",
]
