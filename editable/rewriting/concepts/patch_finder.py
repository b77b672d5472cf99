"""Finding a patch of one colour in images."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from editable.errors import UserError, require_side, require_within
from editable.rewriting.concepts.concept_finder import ConceptFinder

__all__ = ["PatchFinder"]


class PatchFinder(ConceptFinder):
    """Finds squares of one colour wherever they are, such as :class:`~editable.data.PlantedPatch` plants.

    A pixel is of the patch where it lies in a square of ``size`` pixels all of which have the colour: an opening of the
    set of pixels that have it, in the words of mathematical morphology.

    Args:
        colour: red, green and blue, on a scale of 0 to 1; magenta by default.
        size: side of the square, in pixels of the image that the network gets; smaller ones are not found.
        tolerance: largest difference from the colour, in each channel, on a scale of 0 to 1.

    Raises:
        UserError: an argument is out of range.
    """

    def __init__(self, colour: Sequence[float] = (1.0, 0.0, 1.0), size: int = 5, tolerance: float = 0.02) -> None:
        require_side(size=size)
        require_within("[0, 1]", colour=colour)
        require_within("[0, 1)", tolerance=tolerance)
        if len(colour) != 3:
            raise UserError(f"colour is red, green and blue, each from 0 to 1, got {list(colour)}.")
        self.colour, self.size, self.tolerance = tuple(colour), size, tolerance
        self.settings = {"colour": list(colour), "size": size, "tolerance": tolerance}

    def find(self, images: Tensor, names: Sequence[str]) -> Tensor:
        """Return where the patch is, 0 or 1.

        Args:
            images: in [0, 1], ``[N, 3, H, W]``.
            names: of the images; of no meaning here.

        Returns:
            Masks, ``[N, H, W]``.

        Raises:
            UserError: the images are not in colour.
        """
        if images.shape[1] != 3:
            raise UserError(f"a patch of a colour is looked for in images of three channels, got {images.shape[1]}.")
        if self.size > min(images.shape[-2:]):
            return images.new_zeros(len(images), *images.shape[-2:])
        colour = torch.tensor(self.colour).to(images)[:, None, None]
        # In float32, 255 levels leave differences of 1e-8 where there is none.
        near = ((images - colour).abs() <= self.tolerance + 1e-6).all(dim=1).to(images.dtype)
        squares = -functional.max_pool2d(-near[:, None], self.size, stride=1)
        around = functional.pad(squares, [self.size - 1] * 4)
        return functional.max_pool2d(around, self.size, stride=1)[:, 0]
