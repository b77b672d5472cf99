"""The linear layer that a closed-form edit changes, as a matrix: what it reads, and how logits follow its output."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from editable.editing.editors.base import ForwardFunction, Inputs
from editable.editing.editors.site import EditSite
from editable.errors import UserError
from editable.models import SplitNetwork
from editable.models.split.tracing import computes_as_torchs
from editable.rewriting import SecondMoment

__all__ = ["LinearLayer", "reading", "require_finite_samples", "warn_of_missed"]

MOST_NAMED = 10  # samples that a warning counts up


class LinearLayer:
    """The one linear layer whose parameters are editable, W [o, c] with its bias, as a matrix [o, d] of keys [d].

    A key is what the layer reads, with a 1 appended where its bias is editable too, so that d = c + 1. The layer reads
    one vector for each input.

    Args:
        split: The network, split at this layer.

    Attributes:
        name: The layer's name in the network.
        key_size: d.

    Raises:
        UserError: If the editable parameters are not the weight, or weight and bias, of one linear layer.
    """

    def __init__(self, split: SplitNetwork) -> None:
        places = {name.rpartition(".")[0] for name in split.names}
        self.name = min(places)
        layer = split.network.get_submodule(self.name)
        if (
            len(places) > 1
            or not isinstance(layer, nn.Linear)
            or not computes_as_torchs(type(layer))
            or f"{self.name}.weight" not in split.names
        ):
            raise UserError(
                "this editor changes one linear layer, but the editable layers are "
                f"{', '.join(split.names)}: name one linear layer, such as fc"
            )
        self._layer: nn.Linear = layer
        self._weight, self._bias = f"{self.name}.weight", f"{self.name}.bias"
        self.has_bias = self._bias in split.names
        self.key_size = layer.in_features + self.has_bias

    def matrix(self, params: Mapping[str, Tensor]) -> Tensor:
        """Return weight and bias as one matrix, float64 [o, d], a new tensor."""
        weight = params[self._weight].detach().double()
        if not self.has_bias:
            return weight.clone()
        return torch.cat([weight, params[self._bias].detach().double()[:, None]], dim=1)

    def params(self, matrix: Tensor, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a matrix [o, d] as parameters by name, of the type of others."""
        parts = {self._weight: matrix[:, :-1], self._bias: matrix[:, -1]} if self.has_bias else {self._weight: matrix}
        return {name: part.to(like[name]).clone() for name, part in parts.items()}

    @torch.no_grad()
    def keys(self, forward: ForwardFunction, params: Mapping[str, Tensor], inputs: Inputs) -> Tensor:
        """Return what the layer reads of N samples, float64 [N, d]."""
        with reading(self._layer) as read:
            logits = forward(inputs, params)
        return self._with_bias(read, len(logits))

    def derivatives(
        self, forward: ForwardFunction, params: Mapping[str, Tensor], inputs: Inputs
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return keys, logits, and the derivative of the logits by the layer's output, of N samples.

        Returns:
            Keys float64 [N, d]; logits float64 [N, C]; derivatives float64 [N, C, o], the unit matrix [1, C, o] where
            the layer's output is the logits.
        """
        read: list[Tensor] = []
        written: list[Tensor] = []

        def hold(layer: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> Tensor:
            read.append(arguments[0].detach())
            written.append(output.detach().requires_grad_())
            return written[0]

        handle = self._layer.register_forward_hook(hold)
        try:
            with torch.enable_grad():
                logits = forward(inputs, {name: param.detach() for name, param in params.items()})
        finally:
            handle.remove()
        keys = self._with_bias(read, len(logits))
        require_finite_samples(logits, "the network's output")
        if logits is written[0]:
            unit = torch.eye(logits.shape[1], dtype=torch.float64, device=logits.device)
            return keys, logits.detach().double(), unit[None]
        with torch.enable_grad():
            rows = [
                torch.autograd.grad(logits[:, label].sum(), written[0], retain_graph=True)[0]
                for label in range(logits.shape[1])
            ]
        derivatives = torch.stack(rows, dim=1).double()
        require_finite_samples(derivatives, "the derivative of the network's output")
        return keys, logits.detach().double(), derivatives

    def second_moment(self, site: EditSite, num_images: int) -> SecondMoment:
        """Return the second moment of keys over reference images."""
        moment = SecondMoment(self.key_size)
        params = site.split.params
        for features, _ in site.feature_batches(num_images):
            moment.update(self.keys(site.split.suffix, params, features).T.cpu())
        return moment

    def _with_bias(self, read: list[Tensor], number: int) -> Tensor:
        if len(read) != 1 or read[0].ndim != 2 or len(read[0]) != number:
            shapes = [list(some.shape) for some in read]
            raise UserError(
                f"'{self.name}' must read one vector for each image, for this editor, but of {number} images it reads "
                f"{shapes or 'nothing'}"
            )
        require_finite_samples(read[0], f"what '{self.name}' reads")
        keys = read[0].double()
        return torch.cat([keys, torch.ones_like(keys[:, :1])], dim=1) if self.has_bias else keys


@contextmanager
def reading(layer: nn.Module) -> Iterator[list[Tensor]]:
    """Collect what a layer reads, in a list, as long as the context lasts."""
    read: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda layer, arguments: read.append(arguments[0].detach()))
    try:
        yield read
    finally:
        handle.remove()


def require_finite_samples(values: Tensor, what: str) -> None:
    """Raise a :class:`UserError` that names the samples of which a tensor [N, …] has NaN or infinite values."""
    wrong = ~values.detach().flatten(1).isfinite().all(dim=1)
    if bool(wrong.any()):
        raise UserError(
            f"{what} is NaN or infinite for {int(wrong.sum())} of {len(wrong)} samples (number {_numbers(wrong)}): "
            "such inputs, or such a network, cannot be edited"
        )


def warn_of_missed(right: Tensor) -> None:
    """Warn of samples that have been edited and yet do not get their labels, if there are any, by their numbers.

    Args:
        right: Whether each sample gets its label, bool [N].
    """
    if not bool(right.all()):
        warnings.warn(
            f"{int((~right).sum())} of {len(right)} samples do not get their labels (number {_numbers(~right)}): what "
            "is asked of them contradicts what is asked of others, or is more than the layer can hold",
            UserWarning,
            stacklevel=3,
        )


def _numbers(chosen: Tensor) -> str:
    numbers = chosen.nonzero().flatten().tolist()
    return ", ".join(map(str, numbers[:MOST_NAMED])) + (", …" if len(numbers) > MOST_NAMED else "")
