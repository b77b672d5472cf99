"""A concept found in several ways: the first one that finds it in an image has the say."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import Tensor, nn

from editable.errors import UserError
from editable.rewriting.concepts.concept_finder import ConceptFinder

__all__ = ["FirstFinder"]


class FirstFinder(ConceptFinder):
    """Finds a concept by the first of several finders that finds it in an image.

    Such as outlines where somebody has drawn them, and context matching in all other images.

    Args:
        finders: In the order in which they are asked; the last one also says how strongly an image shows the concept.

    Raises:
        UserError: If there is none.
    """

    def __init__(self, finders: list[ConceptFinder]) -> None:
        if not finders:
            raise UserError("finders is empty: name at least one way to find the concept")
        self.finders = list(finders)
        self.files = [file for one in self.finders for file in one.files]
        self.settings = {"finders": [{"class": type(one).__name__, **one.settings} for one in self.finders]}

    @property
    def description(self) -> str:
        """Where masks come from."""
        return ", or else ".join(finder.description for finder in self.finders)

    def check(self, names: Sequence[str], size: tuple[int, int]) -> None:
        """Let all finders read what they need, see :meth:`ConceptFinder.check`."""
        for finder in self.finders:
            finder.check(names, size)

    def prepare(
        self,
        network: nn.Module,
        normalise: Callable[[Tensor], Tensor],
        images: Iterable[Any] = (),
        progress: Callable[[int], object] = lambda images: None,
    ) -> None:
        """Get all finders ready, see :meth:`ConceptFinder.prepare`."""
        for finder in self.finders:
            finder.prepare(network, normalise, images, progress)

    def find(self, images: Tensor, names: Sequence[str]) -> Tensor:
        """Return the first mask of each image that is not empty, see :meth:`ConceptFinder.find`."""
        masks = self.finders[0].find(images, names)
        for finder in self.finders[1:]:
            missing = (~masks.flatten(1).any(dim=1)).nonzero().flatten()
            if len(missing):
                found = finder.find(images[missing], [names[index] for index in missing.tolist()])
                masks = masks.index_copy(0, missing, found.to(masks))
        return masks

    def activation(self, images: Tensor, names: Sequence[str]) -> Tensor:
        """Return what the last finder says, see :meth:`ConceptFinder.activation`."""
        return self.finders[-1].activation(images, names)
