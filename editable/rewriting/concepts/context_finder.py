"""A concept found by context matching: where the network under study sees what it sees in a few exemplars."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from editable.data.concepts.masks import read_masks
from editable.data.images.frame import Frame
from editable.errors import UserError, require_at_least, require_not_negative, require_seed, require_within
from editable.rewriting.concepts.concept_finder import ConceptFinder
from editable.rewriting.keys.context_keys import key_directions, mean_key, resize_mask
from editable.rewriting.keys.context_matching import ContextMatches, match_context
from editable.rewriting.memory.block import LayerBlock
from editable.rewriting.memory.inverse_moment import InverseMoment, Regularisation
from editable.rewriting.memory.memory import Architecture, Memory, make_memory
from editable.rewriting.memory.moment_collection import collect_second_moment

__all__ = ["ContextFinder"]


class ContextFinder(ConceptFinder):
    """Finds a concept where a layer's keys respond to the directions of the concept's keys in exemplars.

    The directions are those of the keys under the exemplars' masks, whitened by the second moment of the keys of all
    images, see :func:`~editable.rewriting.key_directions`. An image shows the concept where the response, brought to
    the image's size, reaches a quantile of the responses at all positions of all images (Bau et al. 2020, "Rewriting a
    deep generative model"; Elango 2021, ch. 2).

    Args:
        masks: Where the concept is in the exemplars: a JSON file of outlines, a folder of mask images, or COCO
            annotations, see :func:`~editable.data.read_masks`.
        layer: Name of the layer, a convolution.
        root: The folder that the exemplars' names are relative to; null: the folder of the masks file.
        category: Name of the category in COCO annotations.
        image_size: Side, or height and width, in pixels, of the exemplars as the network gets them; null: as the masks
            file says, or else the stored size, the same for all.
        resize_size: Likewise of what the image is resized to cover, before the centre crop; null: image_size.
        quantile: Of all responses; the concept is where they are at least as large.
        rank: Number of directions.
        architecture: Keys are a ``pixel`` of the layer's input each, or a ``patch`` of it.
        epsilon: Regularisation of the second moment, as a multiple of its mean eigenvalue.
        positions: Number of positions of each image for the second moment, drawn by seed; null takes all.
        seed: Of that draw.

    Raises:
        UserError: If a number is out of its range, or the masks cannot be read; when it is prepared, if the network
            has no such layer, or the exemplars do not do.
    """

    def __init__(
        self,
        masks: str,
        layer: str,
        root: str | None = None,
        category: str | None = None,
        image_size: int | Sequence[int] | None = None,
        resize_size: int | Sequence[int] | None = None,
        quantile: float = 0.99,
        rank: int = 1,
        architecture: Architecture = "pixel",
        epsilon: float = 1e-4,
        positions: int | None = None,
        seed: int = 0,
    ) -> None:
        require_within("[0, 1]", quantile=quantile)
        require_at_least(1, rank=rank, positions=positions)
        require_not_negative(epsilon=epsilon)
        require_seed(seed=seed)
        found = read_masks(masks, root, category)
        own_frame = image_size is not None or resize_size is not None
        self.frame = Frame(image_size, resize_size) if own_frame else found.frame
        self.layer, self.quantile, self.rank, self.architecture = layer, quantile, rank, architecture
        self.regularisation, self.positions, self.seed = Regularisation(epsilon=epsilon), positions, seed
        self.settings = {
            "masks": masks,
            "layer": layer,
            "root": root,
            "category": category,
            "image_size": self.frame.image_size,
            "resize_size": self.frame.resize_size,
            "quantile": quantile,
            "rank": rank,
            "architecture": architecture,
            "epsilon": epsilon,
            "positions": positions,
            "seed": seed,
        }
        self.files = [file for image in found.images for file in image.files]
        self._exemplars = found.images
        self._site: _Site | None = None

    @property
    def description(self) -> str:
        """Where masks come from."""
        return f"context matching at {self.layer}"

    def check(self, names: Sequence[str], size: tuple[int, int]) -> None:
        """Read the exemplars once, see :meth:`ConceptFinder.check`."""
        for image in self._exemplars:
            image.read(self.frame)

    def prepare(
        self,
        network: nn.Module,
        normalise: Callable[[Tensor], Tensor],
        images: Iterable[Any] = (),
        progress: Callable[[int], object] = lambda images: None,
    ) -> None:
        """Find directions and threshold, by two passes over all images; see :meth:`ConceptFinder.prepare`."""
        block = LayerBlock(network, self.layer)
        if block.geometry is None:
            raise UserError(
                f"'{block.layer}' is a linear layer, whose keys have no place in an image: name a convolution"
            )
        memory = make_memory(tuple(block.weight.shape), block.geometry, self.architecture)
        keys, weights = self._keys(block, memory, normalise)
        moment = collect_second_moment(block, memory, images, self.positions, self.seed, progress)
        inverse = InverseMoment(moment.mean.to(block.weight.device), self.regularisation)
        directions = key_directions(keys, weights, inverse, self.rank).vectors
        key = mean_key(keys, weights)
        matches = match_context(block, memory, directions, images, (self.quantile,), key, progress)
        self._site = _Site(block, memory, normalise, directions, key, matches.thresholds[self.quantile])

    def find(self, images: Tensor, names: Sequence[str]) -> Tensor:
        """Return where the response reaches the quantile, see :meth:`ConceptFinder.find`."""
        heat = self._match(images).upsampled()
        return (heat >= self._prepared.threshold).to(images)

    def activation(self, images: Tensor, names: Sequence[str]) -> Tensor:
        """Return the largest response in each image, see :meth:`ConceptFinder.activation`."""
        return self._match(images).maxima.to(images)

    @property
    def _prepared(self) -> "_Site":
        if self._site is None:
            raise UserError("context matching needs the network under study: call prepare before find")
        return self._site

    def _match(self, images: Tensor) -> ContextMatches:
        site = self._prepared
        batches = [site.normalise(images)]
        return match_context(site.block, site.memory, site.directions, batches, (), site.key)

    @torch.no_grad()
    def _keys(self, block: LayerBlock, memory: Memory, normalise: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Return the exemplars' keys [n, c, P], and their masks on the map of keys [n, P]."""
        images, masks = zip(*(image.read(self.frame) for image in self._exemplars), strict=True)
        for image, exemplar in zip(images, self._exemplars, strict=True):
            if image.shape != images[0].shape:
                raise UserError(
                    f"the exemplar {exemplar.name} is {image.shape[1]}×{image.shape[2]} pixels (height × width) where "
                    f"the first is {images[0].shape[1]}×{images[0].shape[2]}: set image_size to bring all to one size"
                )
        inputs = block.inputs(normalise(torch.stack(images)).to(block.weight))
        size = memory.key_map_size((inputs.shape[-2], inputs.shape[-1]))
        return memory.keys(inputs), resize_mask(torch.stack(masks), size).flatten(1)


class _Site(NamedTuple):
    """A layer where the concept is looked for."""

    block: LayerBlock
    memory: Memory
    normalise: Callable[[Tensor], Tensor]
    directions: Tensor
    key: Tensor
    threshold: float
