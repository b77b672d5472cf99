"""A network whose parameters are shared out over processes, with its last layer whole on each: no other is gathered."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from editable.errors import UserError
from editable.models.logits import logits_of
from editable.models.selection import select_parameters
from editable.models.sharded import gathered
from editable.models.split.modes import evaluation_mode
from editable.models.split.tracing import UntraceableError

__all__ = ["WholeLayer"]


class WholeLayer(nn.Module):
    """A network with shared-out parameters as what it is for edits of its last layer: all before it, and that layer.

    The network runs as it is, by whatever gathers and frees its parameters, and what its last layer reads is taken out
    on the way. That layer is a copy, gathered once, under its own name; no other parameter is seen in here. Every
    process has to run it on the same number of batches.

    Args:
        network: The network, called with one tensor [N, …]; its parameters are distributed tensors of torch.
        patterns: Which parameters are to be edited, see `select_parameters`: those of its last layer, a linear one,
            which gives the logits.

    Raises:
        UserError: If they are not those of one linear layer; when it first runs, if what that gives goes on through
            others.
    """

    def __init__(self, network: nn.Module, patterns: str | Sequence[str]) -> None:
        super().__init__()
        first, *others = dict.fromkeys(name.rpartition(".")[0] for name in select_parameters(network, patterns))
        own = network.get_submodule(first)
        if others or not isinstance(own, nn.Linear):
            raise UserError(_only_last(network, first))
        whole = nn.Linear(own.in_features, own.out_features, own.bias is not None, device="meta")
        for name, parameter in own.named_parameters():
            setattr(whole, name, nn.Parameter(gathered(parameter.detach()).clone()))
        *path, last = first.split(".")
        place: nn.Module = self
        for name in path:
            place.add_module(name, nn.Module())
            place = place.get_submodule(name)
        place.add_module(last, whole)
        self._layer, self._before = first, _Before(network, first)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [N, C] for inputs [N, …]."""
        layer = self.get_submodule(self._layer)
        read = self._before(x)
        return layer(read.to(layer.weight.dtype))


class _Before(nn.Module):
    """Computes what a layer reads; the network is no part of this module, whose parameters are none."""

    def __init__(self, network: nn.Module, layer: str) -> None:
        super().__init__()
        self._held = (network, layer)  # in a tuple, which is no place for modules

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        if isinstance(x, fx.Proxy):
            raise UntraceableError("processes gather its parameters together, and run it as a whole")
        network, name = self._held
        seen: list[tuple[Any, Any]] = []
        layer = network.get_submodule(name)
        handle = layer.register_forward_hook(lambda module, args, output: seen.append((args[0], output)))
        try:
            with evaluation_mode(network):
                logits = logits_of(network(x))
        finally:
            handle.remove()
        if len(seen) != 1 or not torch.equal(gathered(seen[0][1]), gathered(logits)):
            raise UserError(_only_last(network, name))
        return gathered(seen[0][0])


def _only_last(network: nn.Module, name: str) -> str:
    return (
        f"processes share the parameters of {type(network).__name__} out, so edits may change the linear layer alone "
        f"that gives the logits, which '{name}' is not: name that, such as fc, or use trainer.strategy=ddp"
    )
