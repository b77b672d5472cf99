"""What networks see and what is asked of them: images, data modules, streams of edits, and concepts in images.

``classes.py`` is the one place where a class is looked up by name or number, ``class_list.py`` reads lists of them, and
``table_rows.py`` tables; ``images``, ``modules``, ``edits`` and ``concepts`` are the rooms. Nothing here knows a
network. Start with ``modules/image_data_module.py``.
"""

from editable.data.concepts.generator_rule import GeneratorRule, read_generator_rule
from editable.data.concepts.manipulated_folder import (
    ManipulatedImage,
    load_manipulated_folder,
    read_manifest,
    save_manipulated_folder,
)
from editable.data.concepts.manipulation import fit_texture, paste_image, paste_texture, shade
from editable.data.concepts.masks import MaskedImages, read_masks
from editable.data.concepts.rewrite_rule import RewriteRule, RuleExemplar
from editable.data.concepts.surroundings import surroundings
from editable.data.concepts.watermark import Watermark
from editable.data.edits.asked_images import AskedImages
from editable.data.edits.edit_streams import (
    Edits,
    EditStream,
    HeldOutEdits,
    NaturalMistakeEdits,
    RandomLabelEdits,
    random_training_edits,
)
from editable.data.edits.table_edits import TableEdits
from editable.data.images.denormalise import denormalise
from editable.data.images.reader import ImageError
from editable.data.modules.augmented_views import AugmentedViews
from editable.data.modules.cifar10 import CIFAR10DataModule
from editable.data.modules.collections.dataset_module import DatasetDataModule
from editable.data.modules.collections.hugging_face import HuggingFaceDataModule
from editable.data.modules.collections.image_table import ImageTableDataModule
from editable.data.modules.collections.web_dataset import WebDatasetDataModule
from editable.data.modules.digits import DigitsDataModule
from editable.data.modules.image_data_module import ImageDataModule
from editable.data.modules.image_folder import ImageFolderDataModule
from editable.data.modules.labelled_folder import labelled_folder
from editable.data.modules.planted_patch import PlantedPatch

__all__ = [
    "AskedImages",
    "AugmentedViews",
    "CIFAR10DataModule",
    "DatasetDataModule",
    "DigitsDataModule",
    "EditStream",
    "Edits",
    "GeneratorRule",
    "HeldOutEdits",
    "HuggingFaceDataModule",
    "ImageDataModule",
    "ImageError",
    "ImageFolderDataModule",
    "ImageTableDataModule",
    "ManipulatedImage",
    "MaskedImages",
    "NaturalMistakeEdits",
    "PlantedPatch",
    "RandomLabelEdits",
    "RewriteRule",
    "RuleExemplar",
    "TableEdits",
    "Watermark",
    "WebDatasetDataModule",
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
    "surroundings",
]
