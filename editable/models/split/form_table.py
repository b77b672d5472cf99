"""In which form edits are computed, by device and shape: one table, whose row for processors was measured."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["FORMS", "Form", "are_large", "form_of", "is_product"]


class Form(NamedTuple):
    """What one kind of device computes best in which form.

    Attributes:
        alone: Output positions, over all images, up to which a convolution by one kernel is one product of matrices.
        together: Positions of each edit up to which a convolution by the kernels of several edits at once is one
            batched product of matrices; with more, it is one grouped convolution.
        one_by_one_bytes: Edits of more bytes of parameters are made one by one in place of together; none never are.
        measured: Whether the row was.
    """

    alone: int
    together: int
    one_by_one_bytes: int | None
    measured: bool


FORMS: Mapping[str, Form] = {
    # On a processor, an image's convolution reads far more weights than pixels, and torch's second derivatives meet
    # kernels that were not made for that; edits above 12 MiB leave the caches, and fresh pages cost more than calls.
    "cpu": Form(512, 512, 12 * 2**20, measured=True),
    # Not measured. By peaks alone (H200: 67 TFLOP/s in float32, 4.8 TB/s) one image's convolution is over before the
    # next kernel is started, so that the form with the fewest kernels, a convolution, is best. Those of several edits
    # become groups: cuDNN has few kernels for groups of hundreds of channels in float32, and slow ones for their
    # gradients; a batched product is one kernel at full speed. What unfolding moves, twice the patches [c·m·n, P], is
    # less than twice the kernels [f, c·m·n] up to P = f positions, and f is 256 or more where networks are edited.
    "cuda": Form(0, 256, None, measured=False),
}
"""By kind of device; ``python benchmarks/edits_together.py`` and ``benchmarks/device.py`` measure a row."""

OTHERS = Form(0, 0, None, measured=False)


def form_of(device: torch.device | str) -> Form:
    """Return the row of a device; of one that has none, convolutions all at once."""
    return FORMS.get(torch.device(device).type, OTHERS)


def is_product(weight: Tensor, device: torch.device, positions: int) -> bool:
    """Return whether a convolution without groups is done as a product of matrices.

    Args:
        weight: The kernel; under ``torch.func.vmap`` over edits, it stands for one of each.
        device: Where it is done.
        positions: Of the output, over all images of one edit.
    """
    form = form_of(device)
    return positions <= (form.together if torch._C._functorch.is_batchedtensor(weight) else form.alone)


def are_large(params: Mapping[str, Tensor]) -> bool:
    """Return whether edits of these parameters cost less one by one than together."""
    limits = [form_of(param.device).one_by_one_bytes for param in params.values()]
    size = sum(param.nbytes for param in params.values())
    return bool(limits) and all(limit is not None and size > limit for limit in limits)
