"""Names of a data set's images, by which masks and tables know them."""

from pathlib import Path

from torch.utils.data import Dataset, Subset
from torchvision.datasets import ImageFolder

from editable.data.modules.image_data_module import EvaluationImages, ImageDataModule
from editable.data.modules.image_folder import ImageFolderDataModule

__all__ = ["image_names"]


def image_names(data: ImageDataModule, images: Dataset) -> list[str]:
    """Return a name for each of a data module's test images.

    Args:
        data: the data module.
        images: its test images, or some of them by their positions.

    Returns:
        File names relative to the folder of the split, ``<class>/<file>``, where images come from files, kept in memory
        or not; else their positions in the data set, ``"000012"``.
    """
    if isinstance(images, EvaluationImages):
        return image_names(data, images.images)
    if isinstance(images, Subset):
        names = image_names(data, images.dataset)
        return [names[index] for index in images.indices]
    if isinstance(data, ImageFolderDataModule):
        folder = next(folder for split in ("test", "val", "train") if (folder := data.root / split).is_dir())
        files = ImageFolder(folder, allow_empty=True).samples
        if len(files) == len(images):  # type: ignore[arg-type]
            return [Path(path).relative_to(folder).as_posix() for path, _ in files]
    return [f"{position:06}" for position in range(len(images))]  # type: ignore[arg-type]
