"""Data modules, and the streams of edits: which input shall get which label."""

from editable.data.augmented_views import AugmentedViews
from editable.data.cifar10 import CIFAR10DataModule
from editable.data.digits import DigitsDataModule
from editable.data.edit_streams import (
    Edits,
    EditStream,
    HeldOutEdits,
    NaturalMistakeEdits,
    RandomLabelEdits,
    random_training_edits,
)
from editable.data.image_data_module import ImageDataModule
from editable.data.image_folder import ImageFolderDataModule
from editable.data.images import ImageError

__all__ = [
    "AugmentedViews",
    "CIFAR10DataModule",
    "DigitsDataModule",
    "EditStream",
    "Edits",
    "HeldOutEdits",
    "ImageDataModule",
    "ImageError",
    "ImageFolderDataModule",
    "NaturalMistakeEdits",
    "RandomLabelEdits",
    "random_training_edits",
]
