"""Finding everything: for what is put over whole images."""

from collections.abc import Sequence

from torch import Tensor

from editable.rewriting.concepts.concept_finder import ConceptFinder

__all__ = ["EverywhereFinder"]


class EverywhereFinder(ConceptFinder):
    """Says of each image that all of it is the concept, for a stylizer that changes whole images.

    Such as :class:`~editable.data.Watermark`, which covers some of it.
    """

    def find(self, images: Tensor, names: Sequence[str]) -> Tensor:
        """Return masks of ones, ``[N, H, W]``, for images ``[N, C, H, W]``; see :class:`ConceptFinder`."""
        return images.new_ones(len(images), *images.shape[-2:])
