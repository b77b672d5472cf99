"""Callbacks: what runs on trained networks through Lightning's loops, and what a run leaves behind.

The files here are what a user adds to any trainer: ``applied_patches.py``, ``whitened_extra_layer.py``,
``whitened_first_layer.py``, ``run_report.py``, ``prediction_table.py``, ``generated_samples.py``, and the folder
``drawdown_evaluation``, which is a part of every run. Each other folder is a study that a command runs, named as the
command; ``run`` and ``site`` hold what several studies share. In a study, ``callback.py`` computes an outcome,
``outcome.py`` says what that is, ``report.py`` makes tables and figures of it. The mathematics is in
:mod:`editable.editing` and :mod:`editable.rewriting`. Start with ``run/subcommand.py``.
"""

from editable.callbacks.applied_patches import AppliedPatches
from editable.callbacks.drawdown_evaluation.callback import DrawdownEvaluation
from editable.callbacks.drawdown_evaluation.outcome import EvaluatedEdits
from editable.callbacks.edit.callback import ImageEdit
from editable.callbacks.export.callback import NetworkExport
from editable.callbacks.few_shot.callback import FewShotRules
from editable.callbacks.generated_samples import GeneratedSamples
from editable.callbacks.invert.callback import InverseDirectionStudy
from editable.callbacks.judge.callback import FourTests
from editable.callbacks.manipulate.callback import Manipulation
from editable.callbacks.new_class.callback import NewClass
from editable.callbacks.prediction_table import PredictionTable
from editable.callbacks.rewrite.callback import RankOneRewrite
from editable.callbacks.rewrite_generator.callback import GeneratorRewriting
from editable.callbacks.rewrite_generator.of_rewrite import generator_metrics, write_generator_report
from editable.callbacks.run.subcommand import Subcommand
from editable.callbacks.run_report import RunReport, write_metrics
from editable.callbacks.scan.callback import SpuriousScan
from editable.callbacks.search.callback import LearningRateSearch
from editable.callbacks.see.callback import Seeing
from editable.callbacks.site.moment import MomentSettings
from editable.callbacks.stream.callback import CorrectionStream
from editable.callbacks.whitened_extra_layer import WhitenedExtraLayer
from editable.callbacks.whitened_first_layer import WhitenedFirstLayer

__all__ = [
    "AppliedPatches",
    "CorrectionStream",
    "DrawdownEvaluation",
    "EvaluatedEdits",
    "FewShotRules",
    "FourTests",
    "GeneratedSamples",
    "GeneratorRewriting",
    "ImageEdit",
    "InverseDirectionStudy",
    "LearningRateSearch",
    "Manipulation",
    "MomentSettings",
    "NetworkExport",
    "NewClass",
    "PredictionTable",
    "RankOneRewrite",
    "RunReport",
    "Seeing",
    "SpuriousScan",
    "Subcommand",
    "WhitenedExtraLayer",
    "WhitenedFirstLayer",
    "generator_metrics",
    "write_generator_report",
    "write_metrics",
]
