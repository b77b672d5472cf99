"""Names of a data set's images, by which masks and tables know them."""

from collections.abc import Sequence

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
    return _names(images, range(len(images)))  # type: ignore[arg-type]


def _names(images: Dataset, positions: Sequence[int]) -> list[str]:
    """Return the names of those images that are asked for, of which there may be few among a million."""
    if isinstance(images, EvaluationImages):
        return _names(images.images, positions)
    if isinstance(images, Subset):
        return _names(images.dataset, [images.indices[position] for position in positions])
    stored = getattr(images, "names", None)
    return [f"{position:06}" if stored is None else stored[position] for position in positions]
