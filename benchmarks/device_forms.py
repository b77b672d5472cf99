"""The two forms of a convolution in edits, a convolution and a product of matrices, by shape: what fills a table's row.

`device.py` shows it. The row is that of `editable/models/split/form_table.py`.
"""

import argparse
import statistics
from collections.abc import Callable
from functools import partial
from typing import NamedTuple
from unittest.mock import patch

import torch
from measuring import interleaved_seconds, wall_clock
from rich.console import Console
from rich.table import Table
from torch import Tensor

from editable.models.machine.full_precision import full_precision
from editable.models.split.edit_form import patch_conv2d
from editable.models.split.form_table import FORMS, form_of

SHAPES = [(512, 4), (512, 7), (256, 8), (256, 14), (128, 16), (128, 28)]
"""Channels, and height and width, of 3×3 kernels: layers 4 to 2 of a ResNet-18 for 32 and for 224 pixels, in turn."""
GEOMETRY = ((1, 1), (1, 1), (1, 1), 1)
FORM = {"convolution": 0, "product": 2**40}
"""By form, the positions up to which it would be a product."""


class Case(NamedTuple):
    """One convolution of one image for each edit."""

    channels: int
    size: int
    edits: int
    training: bool

    def run(self, device: torch.device, form: str) -> Callable[[], None]:
        """Return what computes it once in a form: the value and its gradients, in training twice differentiated."""
        torch.manual_seed(0)
        kernels = torch.randn(self.edits, self.channels, self.channels, 3, 3).to(device).requires_grad_()
        images = torch.randn(self.edits, 1, self.channels, self.size, self.size).to(device).requires_grad_()

        def each(image: Tensor, kernel: Tensor) -> Tensor:
            return patch_conv2d(image, kernel, None, GEOMETRY)

        def once() -> None:
            kind = device.type
            most = FORM[form]
            with full_precision(), patch.dict(FORMS, {kind: form_of(kind)._replace(alone=most, together=most)}):
                value = torch.func.vmap(each)(images, kernels) if self.edits > 1 else each(images[0], kernels[0])
                gradients = torch.autograd.grad(value.square().sum(), [images, kernels], create_graph=self.training)
                if self.training:
                    torch.autograd.grad(sum(some.square().sum() for some in gradients), [images, kernels])

        return once


def show_forms(options: argparse.Namespace, device: torch.device, console: Console) -> None:
    """Print the seconds of products to those of convolutions, and the row that follows from them."""
    shapes = {
        (max(1, channels * options.width // 64), max(1, size * options.size // 32)): None for channels, size in SHAPES
    }
    numbers = list(dict.fromkeys([1, options.edits]))
    cases = [Case(*shape, number, training) for shape in shapes for number in numbers for training in (False, True)]
    runs = {(case, form): case.run(device, form) for case in cases for form in FORM}
    seconds = interleaved_seconds(runs, options.repeats, partial(wall_clock, device), console, "forms")
    ratios = {
        case: statistics.median(seconds[case, "product"]) / statistics.median(seconds[case, "convolution"])
        for case in cases
    }
    kinds = [(number, training) for number in numbers for training in (False, True)]
    titles = [
        f"{number} edit{'s' * (number > 1)}, {'training' if training else 'evaluation'}" for number, training in kinds
    ]
    table = Table("channels", "positions", *titles, title="one product to one convolution, seconds")
    for channels, size in shapes:
        found = (f"{ratios[Case(channels, size, *kind)]:.2f}" for kind in kinds)
        table.add_row(f"{channels}", f"{size * size}", *found)
    console.print(table)
    alone, together = (most_positions(ratios, number) for number in (numbers[0], numbers[-1]))
    console.print(f"products pay for 1 edit up to {alone} positions, for {numbers[-1]} together up to {together}")


def most_positions(ratios: dict[Case, float], edits: int) -> int:
    """Return up to how many positions a product took less time than a convolution at every shape, both ways."""
    worst: dict[int, float] = {}
    for case, ratio in ratios.items():
        if case.edits == edits:
            worst[case.size**2] = max(ratio, worst.get(case.size**2, 0))
    most = 0
    for positions, ratio in sorted(worst.items()):
        if ratio >= 1:
            break
        most = positions
    return most
