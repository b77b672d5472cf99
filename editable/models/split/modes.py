"""Evaluation mode for a while, and attention that can be vectorised."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

__all__ = ["attention_for", "evaluating", "evaluation_mode"]


@contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[None]:
    """Compute with running statistics and without dropout, whatever mode the network is in.

    Only the ``training`` flags that are set are flipped, and the same ones are set again at the end, also after an
    exception; so modes that differ between modules survive. A network already in evaluation mode costs one look at
    its modules, so a loop that calls `SplitNetwork.suffix` many times is faster inside this context.

    Args:
        network: The network whose modules are switched.
    """
    with evaluating(network.modules()):
        yield


@contextmanager
def evaluating(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Do what :func:`evaluation_mode` does, to some modules."""
    training = [module for module in modules if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def attention_for(vectorised: bool) -> Iterator[None]:
    """Under a functorch transform, keep attention off the fused kernels, of which not all have a batching rule."""
    if not vectorised:
        yield
        return
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)
