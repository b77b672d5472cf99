"""Names of a data set's images, by which masks and tables know them."""

from torch.utils.data import Dataset, Subset

from editable.data.modules.image_data_module import EvaluationImages

__all__ = ["image_names"]


def image_names(images: Dataset) -> list[str]:
    """Return a name for each image of a data set.

    Args:
        images: a data module's test images, or some of them by their positions.

    Returns:
        File names relative to the folder of the split, ``<class>/<file>``, where images come from files, kept in memory
        or not; else their positions in the data set, ``"000012"``.
    """
    if isinstance(images, EvaluationImages):
        return image_names(images.images)
    if isinstance(images, Subset):
        names = image_names(images.dataset)
        return [names[index] for index in images.indices]
    stored = getattr(images, "names", None)
    if stored is not None:
        return list(stored)
    return [f"{position:06}" for position in range(len(images))]  # type: ignore[arg-type]
