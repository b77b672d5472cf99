"""Tasks: LightningModules that train a classifier, plainly or so that it can be edited, or a generator.

Start with ``classification.py``, which the two editable ones extend. What runs on a trained network is in
:mod:`editable.callbacks`.
"""

from editable.tasks.classification import ClassificationTask
from editable.tasks.editable_fine_tuning import EditableFineTuningTask
from editable.tasks.editable_training import EditableTrainingTask
from editable.tasks.generation import GenerationTask
from editable.tasks.warmup_cosine import WarmupCosine

__all__ = ["ClassificationTask", "EditableFineTuningTask", "EditableTrainingTask", "GenerationTask", "WarmupCosine"]
