"""The layer that looks at parts of images: where it sees what speaks for a class, and how it is made to see another."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from editable.errors import UserError
from editable.models import evaluation_mode
from editable.rewriting import (
    ClosedForm,
    InverseMoment,
    LayerBlock,
    Regularisation,
    RewriteProblem,
    RewriteResult,
    collect_second_moment,
    exemplars_from_images,
    make_memory,
)
from editable.rewriting.keys.context_keys import mean_key, span_directions
from editable.rewriting.keys.context_matching import match_context

__all__ = ["ConceptLayer", "find_layer"]

MOST_EXEMPLARS = 16
"""Images of a class that say what a painted part shall behave as."""
LEAST_POSITIONS = 6
"""On a side of the map of the layer that is chosen: of fewer nobody could say where they are in an image."""
BATCH = 64
SMOOTH = Regularisation(epsilon=1e-2)
"""Of the second moment, for maps: directions that hardly vary say little of where a class is."""


class ConceptLayer:
    """A convolution of the unedited network, with the second moment of its keys and what classes look like to it.

    Where the image of a class is seen is context matching (:func:`match_context`): the response of each position's key
    to C⁻¹k of the class, k the mean key over the reference images that the unedited network rightly takes for it. The
    same directions are used for corrected networks, so that maps before and after can be compared.

    Args:
        network: The unedited network.
        layer: Name of the convolution.
        images: References, as the network gets them, [n, C, H, W].
        labels: Of the class that each rightly is taken for, int64 [n]; −1 where it is mistaken.
        progress: Called with the number of images done since the last call.

    Raises:
        UserError: If there is no such layer, or it is none that can be rewritten.
    """

    def __init__(
        self,
        network: nn.Module,
        layer: str,
        images: Tensor,
        labels: Tensor,
        progress: Callable[[int], object] = lambda done: None,
    ) -> None:
        block = LayerBlock(network, layer)
        if block.geometry is None:
            raise UserError(f"app.layer is '{layer}', a linear layer, whose keys have no place in an image")
        self.layer, self._images, self._labels = block.layer, images, labels
        self._memory = make_memory(tuple(block.weight.shape), block.geometry)
        keys: list[Tensor] = []

        def inputs() -> Any:
            for batch in images.split(BATCH):
                with torch.no_grad():
                    own = self._memory.keys(block.inputs(batch.to(block.weight)))
                keys.append(own.double().mean(dim=2, keepdim=True).cpu())
                yield batch

        moment = collect_second_moment(block, self._memory, inputs(), progress=progress)
        self._inverse = InverseMoment(moment)
        self._directions = self._class_directions(torch.cat(keys), InverseMoment(moment, SMOOTH))

    def block_of(self, network: nn.Module) -> LayerBlock:
        """Return this layer of a network of the same form, or with a layer that an editor has put in; it is traced."""
        return LayerBlock(network, self.layer)

    @torch.no_grad()
    def map(self, block: LayerBlock, image: Tensor, label: int) -> Tensor | None:
        """Return where a network sees what speaks for a class, [h, w], 0 where nothing does.

        Args:
            block: See :meth:`block_of`.
            image: As it gets it, [C, H, W].
            label: The class; where no reference image shows it, there is no map.
        """
        direction = self._directions.get(label)
        if direction is None:
            return None
        matches = match_context(block, self._memory, direction, [image[None]], ())
        return matches.heat_maps[0].clamp(min=0).float()

    def rewrite(self, network: nn.Module, image: Tensor, mask: Tensor, label: int) -> RewriteResult:
        """Let a network treat the painted part of an image as it treats that part of images of a class.

        The keys are those of the part, the values those of the same part of reference images, in the mean; the second
        moment is that of the unedited network.

        Args:
            network: Any network of the same form.
            image: As the network gets it, [C, H, W].
            mask: The part, 0 and 1, [H, W].
            label: The class.

        Raises:
            UserError: If no reference image is rightly taken for the class.
        """
        block = LayerBlock(network, self.layer)
        originals = self._images[self._labels == label][:MOST_EXEMPLARS].to(block.weight)
        if not len(originals):
            raise UserError(
                "none of the reference images is rightly taken for that class, so nothing says how it looks: ask for "
                "the label instead, or start the app with more images (app.num_images)"
            )
        number = len(originals)
        shown = image.to(originals).expand_as(originals)
        exemplars = exemplars_from_images(block, originals, shown, mask.to(originals).expand(number, -1, -1))
        labels = torch.full((number,), label, device=originals.device)
        problem = RewriteProblem(block, self._memory, exemplars, self._inverse, images=shown, labels=labels)
        return ClosedForm()(problem)

    def _class_directions(self, keys: Tensor, inverse: InverseMoment) -> dict[int, Tensor]:
        directions: dict[int, Tensor] = {}
        for label in self._labels.unique().tolist():
            own = keys[self._labels == label]
            if label >= 0 and own.any():
                key = mean_key(own, torch.ones(len(own), 1))
                directions[label] = span_directions(key, inverse).vectors
        return directions


def find_layer(network: nn.Module, image: Tensor) -> str | None:
    """Return the last convolution that can be rewritten and still tells positions apart; none where there is none.

    Where all have few positions it is the last of those with the most.

    Args:
        network: The network.
        image: As it gets it, [C, H, W].
    """
    sides: dict[str, int] = {}
    hooks = []
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d) and module.groups == 1:

            def see(module: nn.Module, inputs: Any, output: Tensor, name: str = name) -> None:
                sides[name] = min(output.shape[-2:])

            hooks.append(module.register_forward_hook(see))
    try:
        first = next(network.parameters())
        with torch.no_grad(), evaluation_mode(network):
            network(image[None].to(first.device, first.dtype))
    finally:
        for hook in hooks:
            hook.remove()
    enough = min(LEAST_POSITIONS, max(sides.values(), default=0))
    for name in reversed([name for name, side in sides.items() if side >= enough]):
        try:
            LayerBlock(network, name)
        except UserError:  # used twice, or a convolution of another kind
            continue
        return name
    return None
