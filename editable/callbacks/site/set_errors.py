"""Errors on a set of images before and after a rewrite, and the figures that follow from them."""

from typing import NamedTuple

from torch import Tensor

from editable.rewriting import errors_corrected

__all__ = ["SetErrors"]


class SetErrors(NamedTuple):
    """Errors on a set of images before and after a rewrite.

    Attributes:
        num_images: Number of images.
        before: How many the unedited network gets wrong.
        after: How many the rewritten network gets wrong.
    """

    num_images: int
    before: int
    after: int

    @staticmethod
    def of(labels: Tensor, before: Tensor, after: Tensor) -> "SetErrors":
        """Count errors of predicted labels, each int64 [N]."""
        return SetErrors(len(labels), int((before != labels).sum()), int((after != labels).sum()))

    @property
    def corrected(self) -> float | None:
        """Part of the errors that is corrected, net of new ones; none where there was none before."""
        return errors_corrected(self.before, self.after)

    @property
    def drop(self) -> float:
        """Drop in accuracy, a fraction."""
        return (self.after - self.before) / self.num_images
