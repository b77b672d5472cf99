"""A convolution of fixed size under vmap over its weights, against torch's own for each of them."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, vmap

from tests.warned import no_warning


def check_under_vmap(
    layer: nn.Module,
    transform: Callable[[Tensor], Tensor],
    kernels: Tensor,
    biases: Tensor,
    x: Tensor,
    tolerance: float,
) -> None:
    """Compare outputs for the same images, and for images of their own.

    Args:
        layer: Convolves with one zero of padding, by a transformed kernel and a bias.
        transform: Of a kernel [f, c, 3, 3].
        kernels: Of each edit, [E, f, c, 3, 3].
        biases: The same, [E, f].
        x: Images, [E, N, c, H, W].
        tolerance: Largest difference.
    """
    made = {"weight": torch.stack([transform(kernel) for kernel in kernels]), "bias": biases}

    def run(state: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(layer, state, x)

    with no_warning():  # torch warns where it lacks a batching rule and loops
        same, own = vmap(run, in_dims=(0, None))(made, x[0]), vmap(run)(made, x)
    for edit in range(len(kernels)):
        for ours, given in ((same, x[0]), (own, x[edit])):
            expected = F.conv2d(given, kernels[edit], biases[edit], padding=1)
            torch.testing.assert_close(ours[edit], expected, rtol=0, atol=tolerance)
