"""Data modules, the streams of edits (which input shall get which label), and rules of rewriting as images."""

from editable.data.asked_images import AskedImages
from editable.data.augmented_views import AugmentedViews
from editable.data.cifar10 import CIFAR10DataModule
from editable.data.denormalise import denormalise
from editable.data.digits import DigitsDataModule
from editable.data.edit_streams import (
    Edits,
    EditStream,
    HeldOutEdits,
    NaturalMistakeEdits,
    RandomLabelEdits,
    random_training_edits,
)
from editable.data.generator_rule import GeneratorRule, read_generator_rule
from editable.data.image_data_module import ImageDataModule
from editable.data.image_folder import ImageFolderDataModule
from editable.data.images import ImageError
from editable.data.labelled_folder import labelled_folder
from editable.data.manipulated_folder import (
    ManipulatedImage,
    load_manipulated_folder,
    read_manifest,
    save_manipulated_folder,
)
from editable.data.manipulation import fit_texture, paste_image, paste_texture, shade
from editable.data.masks import MaskedImages, read_masks
from editable.data.planted_patch import PlantedPatch
from editable.data.rewrite_rule import RewriteRule, RuleExemplar

__all__ = [
    "AskedImages",
    "AugmentedViews",
    "CIFAR10DataModule",
    "DigitsDataModule",
    "EditStream",
    "Edits",
    "GeneratorRule",
    "HeldOutEdits",
    "ImageDataModule",
    "ImageError",
    "ImageFolderDataModule",
    "ManipulatedImage",
    "MaskedImages",
    "NaturalMistakeEdits",
    "PlantedPatch",
    "RandomLabelEdits",
    "RewriteRule",
    "RuleExemplar",
    "denormalise",
    "fit_texture",
    "labelled_folder",
    "load_manipulated_folder",
    "paste_image",
    "paste_texture",
    "random_training_edits",
    "read_generator_rule",
    "read_manifest",
    "read_masks",
    "save_manipulated_folder",
    "shade",
]
