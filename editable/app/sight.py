"""A network that visitors look through: what it takes an image for, and where it sees that."""

import copy
from functools import cached_property
from typing import NamedTuple

from torch import Tensor, nn

from editable.app.concept import ConceptLayer
from editable.calls.running import logits_on
from editable.rewriting import LayerBlock

__all__ = ["Sight", "View"]


class View(NamedTuple):
    """What a network makes of an image.

    Attributes:
        probabilities: Of the classes, [classes].
        map: Where it sees what speaks for the likeliest one, [h, w]; none where nothing tells.
    """

    probabilities: Tensor
    map: Tensor | None


class Sight:
    """A copy of a network as it is now, apart from the one that corrections are made with.

    Args:
        network: The network, which is copied.
        concept: What looks at parts of images, if there is such a layer.
    """

    def __init__(self, network: nn.Module, concept: ConceptLayer | None) -> None:
        self._network, self._concept = copy.deepcopy(network).eval(), concept

    def look(self, image: Tensor) -> View:
        """Look at an image [C, H, W]; while one looks, nobody else may trace a network."""
        probabilities = logits_on(self._network, image[None])[0].float().softmax(dim=-1)
        if self._concept is None:
            return View(probabilities, None)
        return View(probabilities, self._concept.map(self._block, image, int(probabilities.argmax())))

    @cached_property
    def _block(self) -> LayerBlock:
        assert self._concept is not None, "a map is asked for where there is one"
        return self._concept.block_of(self._network)
