"""Where images show a concept: what all ways to find it have in common."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn

__all__ = ["ConceptFinder"]


class ConceptFinder(ABC):
    """Finds one concept in images, such as wheels: a mask for each image, empty where the concept is not found.

    Attributes:
        settings: What masks depend on, as plain values, for records and to recognise an interrupted run.
        files: Files that masks are made from, besides those that the settings name, to recognise it by as well.
    """

    settings: Mapping[str, Any] = MappingProxyType({})
    files: Sequence[Path] = ()

    @property
    def description(self) -> str:
        """Where masks come from, in a few words for records."""
        return type(self).__name__

    def check(self, names: Sequence[str], size: tuple[int, int]) -> None:  # noqa: B027  most finders read nothing
        """Read once what files the finder needs, so that a broken one is found before long work.

        Args:
            names: Of all images that will be looked at, as of :meth:`find`.
            size: Their height and width.

        Raises:
            UserError: If a file cannot be read, or does not fit.
        """

    def prepare(  # noqa: B027  most finders need nothing
        self,
        network: nn.Module,
        normalise: Callable[[Tensor], Tensor],
        images: Iterable[Any] = (),
        progress: Callable[[int], object] = lambda images: None,
    ) -> None:
        """Get ready to look at images; to be called once, before :meth:`find`. By default nothing is to be done.

        Args:
            network: The network under study, on its device.
            normalise: Makes of images in [0, 1] what the network takes.
            images: The images among which the concept is looked for, as the network takes them, in batches [N, C, H, W]
                or tuples that begin with them. They may be gone through more than once, as a data loader can.
            progress: Called with the number of images gone through since the last call.

        Raises:
            UserError: If the finder does not fit the network, or needs images and there is none.
        """

    @abstractmethod
    def find(self, images: Tensor, names: Sequence[str]) -> Tensor:
        """Find the concept.

        Args:
            images: Floats in [0, 1], not normalised, [N, C, H, W].
            names: Their file names relative to the image folder, ``<class>/<file>``.

        Returns:
            Masks, float in [0, 1], [N, H, W], on the device of the images; all zero where the concept is not found.

        Raises:
            UserError: If masks cannot be made of these images.
        """

    def activation(self, images: Tensor, names: Sequence[str]) -> Tensor:
        """Return how strongly each image shows the concept, to rank images by; by default the part that it covers.

        Args:
            images: As of :meth:`find`.
            names: As of :meth:`find`.

        Returns:
            float [N].
        """
        return self.find(images, names).mean(dim=(1, 2))
