"""What it costs to solve a convolution in the Fourier domain and cut the full-size kernel to the layer's own size.

    python benchmarks/fourier_truncation.py
    python benchmarks/fourier_truncation.py --weights data/cifar10-resnet18.safetensors --root data/cifar10-jpeg/test

Maps A and what a 3×3 layer makes of them, V = W ⋆ A with noise, are given; the kernel is sought that gives V with least
squared error, without a constraint, and with one: that it recalls for a patch of the maps, of 3×3 or 5×5 pixels, what W
recalls for another place. Kernels:

    full, Fourier    as large as the map, periodic borders: solved frequency by frequency
    cut to 3×3       the taps of that kernel where the layer's own lie
    3×3, periodic    exact for its size: least squares over unfolded patches, of maps continued periodically
    3×3, zeros       the same, with zeros around the maps

Errors are Σ ‖V − W ⋆ A‖² / Σ ‖V‖², on the maps that kernels are fitted to and on as many others: of the full-size
kernel with periodic borders, of all others with those of the layer. One table is of a layer with periodic borders, the
other of one with zeros around, as torch's layers have. "missed" is how far the kernel is from the constraint.

Without weights, maps are random patterns, cut out of larger ones, behind a ReLU. With them, they are what a layer of
the CIFAR-10 ResNet-18 reads of images; the noise stands for what a weight cannot do.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import torch
from measuring import processor_line
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional
from torchvision.datasets import ImageFolder
from torchvision.transforms.v2 import functional as transforms

from editable.models import cifar_resnet18, load_weights
from editable.rewriting.memory.block import LayerBlock
from editable.rewriting.memory.fourier_memory import (
    SpectralMoments,
    Truncation,
    correlate_periodically,
    cut_kernel,
    fourier_least_squares,
    fourier_rewrite,
    place_kernel,
    truncate_kernel,
)
from editable.rewriting.memory.memory import ConvGeometry, PatchMemory
from editable.rewriting.solvers.patch_least_squares import constrained_patch_least_squares, patch_least_squares

SAME = ConvGeometry((3, 3), padding=(1, 1))
MEAN, STD = [0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010]


class Maps(NamedTuple):
    """Inputs [N, c, Q, R] of a layer, and its weight [f, c, 3, 3]."""

    inputs: Tensor
    weight: Tensor


def parse() -> argparse.Namespace:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = "(default: %(default)s)"
    made.add_argument("--channels", type=int, default=8, help=f"of random maps {default}")
    made.add_argument("--filters", type=int, default=8, help=f"of the random layer {default}")
    made.add_argument("--size", type=int, default=16, help=f"height and width of random maps {default}")
    made.add_argument("--samples", type=int, default=400, help=f"maps to fit to, and as many others {default}")
    made.add_argument("--noise", type=float, default=0.1, help=f"standard deviation, relative to that of V {default}")
    made.add_argument("--epsilon", type=float, default=1e-6, help=f"ridge, relative to the mean eigenvalue {default}")
    made.add_argument("--seed", type=int, default=0, help=f"of maps, weight and noise {default}")
    made.add_argument("--weights", type=Path, help="of the CIFAR-10 ResNet-18, in place of random maps")
    made.add_argument("--root", type=Path, default=Path("data/cifar10-jpeg/test"), help=f"folder of images {default}")
    made.add_argument("--layer", default="layer3.1.conv1", help=f"of the network, 3×3, stride 1 {default}")
    arguments = made.parse_args()
    if arguments.size < 6:
        made.error("maps must be at least 6×6, larger than the patches")
    return arguments


def random_maps(arguments: argparse.Namespace) -> Maps:
    number, channels, size = 2 * arguments.samples, arguments.channels, arguments.size
    noise = torch.randn(number, channels, size + 4, size + 4, dtype=torch.float64)
    mixing = torch.randn(channels, channels, 5, 5, dtype=torch.float64) / (25 * channels) ** 0.5
    weight = torch.randn(arguments.filters, channels, 3, 3, dtype=torch.float64)
    return Maps(functional.conv2d(noise, mixing).relu(), weight)


@torch.no_grad()
def network_maps(arguments: argparse.Namespace) -> Maps:
    network = cifar_resnet18()
    load_weights(network, arguments.weights)
    block = LayerBlock(network, arguments.layer)
    images = ImageFolder(str(arguments.root))
    inputs = []
    for part in torch.randperm(len(images))[: 2 * arguments.samples].split(100):
        pixels = [transforms.to_dtype(transforms.to_image(images[index][0]), scale=True) for index in part.tolist()]
        inputs.append(block.inputs(transforms.normalize(torch.stack(pixels), MEAN, STD)))
    return Maps(torch.cat(inputs).double(), block.weight.detach().double())


def around(inputs: Tensor, periodic: bool) -> Tensor:
    return functional.pad(inputs, (1, 1, 1, 1), mode="circular" if periodic else "constant")


class Case:
    """One layer with its borders: maps and values, and the table of kernels that are fitted to them."""

    def __init__(self, maps: Maps, periodic: bool, arguments: argparse.Namespace) -> None:
        self.inputs, self.weight = maps
        self.periodic, self.epsilon, self.number = periodic, arguments.epsilon, arguments.samples
        clean = functional.conv2d(around(self.inputs, periodic), self.weight)
        self.values = clean + arguments.noise * clean.std() * torch.randn_like(clean)
        self.table = Table(
            title=f"{'periodic' if periodic else 'zero'} borders, {self.number} maps {[*maps.inputs[0].shape]}"
        )
        for name in ("constraint", "kernel", "error, seen maps", "error, new maps", "missed"):
            self.table.add_column(name, justify="left" if name in ("constraint", "kernel") else "right")

    def measure(self) -> Table:
        """Fit all kernels and fill the table."""
        inputs, values = self.inputs[: self.number], self.values[: self.number]
        channels, *size = inputs.shape[1:]
        filters = values.shape[1]
        moments = SpectralMoments(channels, filters, (size[0], size[1]))
        for maps, wanted in zip(inputs.split(50), values.split(50), strict=True):
            moments.update(maps, wanted)
        full = fourier_least_squares(moments, self.epsilon)
        memory = PatchMemory((filters, channels, 3, 3), ConvGeometry((3, 3)))
        exact = {
            name: patch_least_squares(memory, [(around(inputs, periodic), values)], self.epsilon)
            for name, periodic in (("3×3, periodic", True), ("3×3, zeros", False))
            if periodic or not self.periodic
        }
        small = {name: fit.weight for name, fit in exact.items()}
        self._add("none", full, truncate_kernel(full, SAME, moments), small)

        target = self.weight.flatten(1) @ inputs[1, :, 1:4, 1:4].reshape(-1, 1)
        for reach in (1, 2):
            geometry = ConvGeometry((2 * reach + 1,) * 2, padding=(reach, reach))
            patch = inputs[:1, :, 2 - reach : 3 + reach, 2 - reach : 3 + reach]
            keys = place_kernel(patch, geometry, moments.size)
            inner = cut_kernel(keys, SAME).view(1, -1).T  # all that a 3×3 kernel sees of the patch
            changed = fourier_rewrite(full, keys, target, moments, self.epsilon)
            small = {name: constrained_patch_least_squares(fit, inner, target) for name, fit in exact.items()}
            cut = truncate_kernel(changed, SAME, moments, keys, target)
            missed = {name: _distance(kernel.flatten(1) @ inner, target) for name, kernel in small.items()}
            self._add(f"{2 * reach + 1}×{2 * reach + 1} patch", changed, cut, small, missed)
        return self.table

    def _add(
        self,
        constraint: str,
        full: Tensor,
        cut: Truncation,
        small: dict[str, Tensor],
        missed: dict[str, float] | None = None,
    ) -> None:
        missed = missed or {}
        self._row(constraint, "full, Fourier", correlate_periodically(self.inputs, full), cut.residual_before)
        for name, kernel in {"cut to 3×3": cut.weight, **small}.items():
            found = functional.conv2d(around(self.inputs, self.periodic), kernel)
            self._row("", name, found, cut.residual if name == "cut to 3×3" else missed.get(name))
        self.table.add_section()

    def _row(self, constraint: str, name: str, found: Tensor, missed: float | None) -> None:
        squares, totals = (maps.square().sum((1, 2, 3)) for maps in (self.values - found, self.values))
        parts = (slice(self.number), slice(self.number, None))
        errors = [f"{100 * float(squares[part].sum() / totals[part].sum()):.3f} %" for part in parts]
        self.table.add_row(constraint, name, *errors, "" if missed is None else f"{100 * missed:.2g} %")


def _distance(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def main() -> None:
    arguments = parse()
    torch.manual_seed(arguments.seed)
    maps = random_maps(arguments) if arguments.weights is None else network_maps(arguments)
    console = Console()
    console.print(processor_line())
    for periodic in (True, False):
        console.print(Case(maps, periodic, arguments).measure())


if __name__ == "__main__":
    main()
