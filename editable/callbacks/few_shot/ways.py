"""Ways to make a rule from labelled photographs: rewriting one or several layers, and editors of a linear layer."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from editable.callbacks.run.titles import title_of
from editable.callbacks.site.moment import MomentImages
from editable.editing import BaseEditor, EditSite
from editable.errors import UserError
from editable.models import SplitNetwork, evaluation_mode, logits_of
from editable.models.machine.devices import to_device
from editable.rewriting import (
    InverseMoment,
    LayerBlock,
    Memory,
    Regularisation,
    closed_form_update,
    labelled_key,
    make_memory,
    mean_key,
    resize_mask,
)

__all__ = ["EditorWay", "KnownImages", "RewritingWay", "Way"]


class KnownImages(NamedTuple):
    """Images of what the new concept shall be taken for, such as vehicles on roads.

    Attributes:
        images: As the network takes them, [m, C, H, W].
        masks: Where it is, in [0, 1], [m, H, W]; a linear layer reads all of an image.
        labels: int64 [m].
    """

    images: Tensor
    masks: Tensor
    labels: Tensor


class Way(ABC):
    """Makes a rule from some of the photographs; the network itself never changes.

    Attributes:
        label: What it is called in tables.
        names: Names of the parameters that it changes.
    """

    label: str
    names: tuple[str, ...]

    @abstractmethod
    def __call__(self, makers: Tensor, unseen: Sequence[int]) -> dict[str, Tensor]:
        """Return changed parameters by name.

        Args:
            makers: Positions of the photographs, int64 [n].
            unseen: Labels of classes of which it may use no image at all.
        """


class _Layer(NamedTuple):
    """A layer made ready: its memory, and mean keys of all images, float64 [n, c]."""

    block: LayerBlock
    memory: Memory
    inverse: InverseMoment
    keys: Tensor
    known_keys: Tensor
    gives_logits: bool


class RewritingWay(Way):
    """Rewrites layers in closed form: what photographs have in common recalls what known images do.

    See :func:`~editable.rewriting.labelled_key`. Several layers share the change equally, each solved in the network as
    it is (a simple form of what MEMIT does, Meng et al. 2023).

    Args:
        network: The network.
        layers: Names of the layers.
        images: All photographs, as the network takes them, [N, C, H, W].
        labels: Their labels, int64 [N].
        known: What they shall be taken for.
        moment: The images for second moments.
        regularisation: Of the second moments.
        keep_labels: In the layer that gives the logits, leave the logits of the makers' own classes as they are.
        batch_size: Number of images run at once.
        progress: Called with the number of images of the moment that are done since the last call.
    """

    def __init__(
        self,
        network: nn.Module,
        layers: Sequence[str],
        images: Tensor,
        labels: Tensor,
        known: KnownImages,
        moment: MomentImages,
        regularisation: Regularisation,
        keep_labels: bool,
        batch_size: int,
        progress: Callable[[int], object] = lambda images: None,
    ) -> None:
        self._labels, self._known_labels, self._keep = labels, known.labels, keep_labels
        self._layers = []
        for name in layers:
            block = LayerBlock(network, name)
            memory = make_memory(tuple(block.weight.shape), block.geometry)
            second_moment = moment.second_moment(block, memory, "pixel", progress)
            device = block.weight.device
            whole = torch.ones_like(images[:, 0])
            self._layers.append(
                _Layer(
                    block,
                    memory,
                    InverseMoment(second_moment.mean.to(device), regularisation),
                    _mean_keys(block, memory, images, whole, batch_size),
                    _mean_keys(block, memory, known.images, known.masks, batch_size),
                    _gives_logits(block, images[:1]),
                )
            )
        self.names = tuple(layer.block.weight_name for layer in self._layers)
        self.label = f"rewriting {' + '.join(layer.block.layer for layer in self._layers)}"

    @torch.no_grad()
    def __call__(self, makers: Tensor, unseen: Sequence[int]) -> dict[str, Tensor]:
        """Solve for each layer; see :meth:`Way.__call__`."""
        seen = torch.tensor([label not in unseen for label in self._known_labels.tolist()])
        if not seen.any():
            raise UserError(
                f"all known images are of the classes left out, {list(unseen)} by number: give known ones of others"
            )
        params = {}
        for block, memory, inverse, keys, known_keys, gives_logits in self._layers:
            matrix = memory.matrix(block.weight.double())
            keep = self._keep and gives_logits
            asked = labelled_key(matrix, keys[makers], self._labels[makers].to(keys.device), known_keys[seen], keep)
            update = closed_form_update(matrix, asked.keys, asked.values, inverse)
            changed = matrix + update.coefficients @ update.directions.T / len(self._layers)
            params[block.weight_name] = memory.weight(changed).to(block.weight)
        return params


class EditorWay(Way):
    """Lets an editor give the photographs their labels, all at once.

    Args:
        network: The network.
        layer: Name of the linear layer whose weight the editor may change.
        editor: The editor, which brings no layers of its own.
        images: All photographs, as the network takes them, [N, C, H, W].
        labels: Their labels, int64 [N].
        references: Labelled images that are neither edited nor reported.
        batch_size: Number of images run at once.

    Raises:
        UserError: If the editor does not go with the layer.
    """

    def __init__(
        self,
        network: nn.Module,
        layer: str,
        editor: BaseEditor,
        images: Tensor,
        labels: Tensor,
        references: Dataset,
        batch_size: int,
    ) -> None:
        self.names, self.label = (f"{layer}.weight",), f"{title_of(editor)} of {layer}"
        self._split = SplitNetwork(network, list(self.names))
        self._labels = labels
        device = next(network.parameters()).device

        def batches(number: int) -> Iterable[tuple[Tensor, Tensor]]:
            some = Subset(references, range(min(number, len(references))))  # type: ignore[arg-type]
            return DataLoader(some, batch_size=batch_size)

        with torch.no_grad():
            parts = [self._split.prefix(to_device(batch, device)) for batch in images.split(batch_size)]
        self._features = tuple(map(torch.cat, zip(*parts, strict=True)))
        self._editor = editor.at(EditSite(self._split, batches, device))

    def __call__(self, makers: Tensor, unseen: Sequence[int]) -> dict[str, Tensor]:
        """Make the edit; see :meth:`Way.__call__`."""
        features = tuple(part[makers] for part in self._features)
        labels = self._labels[makers].to(features[0].device)
        params = {name: param.detach() for name, param in self._split.params.items()}
        result = self._editor(self._split.suffix, params, features, labels)
        return {name: tensor.detach() for name, tensor in result.params.items()}


@torch.no_grad()
def _mean_keys(block: LayerBlock, memory: Memory, images: Tensor, masks: Tensor, batch_size: int) -> Tensor:
    """Return the mean key of each image, weighted by its mask, float64 [n, c]."""
    means = []
    for some, mask in zip(images.split(batch_size), masks.split(batch_size), strict=True):
        inputs = block.inputs(to_device(some, block.weight.device))
        keys = memory.keys(inputs)
        weights = keys.new_ones(len(keys), keys.shape[-1])
        if block.geometry is not None:
            size = memory.key_map_size((inputs.shape[-2], inputs.shape[-1]))
            weights = resize_mask(mask.to(keys.device), size).flatten(1)
        means += [mean_key(keys[[place]], weights[[place]])[:, 0] for place in range(len(keys))]
    return torch.stack(means)


@torch.no_grad()
def _gives_logits(block: LayerBlock, image: Tensor) -> bool:
    """Tell whether a layer's output is the network's, so that its rows are classes."""
    if block.geometry is not None:
        return False
    image = to_device(image, block.weight.device)
    with evaluation_mode(block.network):
        logits = logits_of(block.network(image))
    outputs = block.outputs(block.inputs(image))
    return outputs.shape == logits.shape and torch.allclose(outputs, logits, rtol=1e-4, atol=1e-4)
