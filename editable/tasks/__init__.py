"""Tasks: LightningModules that train a classifier, plainly or so that it can be edited."""

from editable.tasks.classification import ClassificationTask
from editable.tasks.editable_fine_tuning import EditableFineTuningTask
from editable.tasks.editable_training import EditableTrainingTask

__all__ = ["ClassificationTask", "EditableFineTuningTask", "EditableTrainingTask"]
