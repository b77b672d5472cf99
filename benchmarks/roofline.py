"""Where a ResNet-18 stands below the roofs of this machine: arithmetic and memory bandwidth.

A part cannot be faster than min(peak, intensity · bandwidth), with intensity = FLOPs / bytes (Williams et al. 2009).
The roofs are measured in the same rounds: the peaks of float32 and bfloat16 as the fastest of a matrix product and two
convolutions, the bandwidth by a copy. The parts are the chains of the network in evaluation, the prefix before the
edited layer, the suffix from it on in each of its scoring forms, and plain training steps, forward and backward.

FLOPs are those of convolutions and linear layers as direct sums, a multiply-add being two; an algorithm that needs
fewer, such as Winograd's, can so pass the peak. Bytes are the least: each convolution and linear layer reads its input
and weights and writes its output once, and its gradients likewise; all else, BatchNorm and ReLU, is taken to be free.
Seconds are wall-clock time, the median for parts and the least for roofs: nothing else should run meanwhile.
"""

import argparse
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from matplotlib.figure import Figure
from measuring import interleaved_seconds, parser, processor_line, save, wall_clock
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from editable.models import ScoringForm, ScoringSettings, SplitNetwork, cifar_resnet18, lay_out_channels_last
from editable.visualize.drawing import COLOURS, in_style

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
CHAINS = ("layer1", "layer2", "layer3", "layer4")


class Part(NamedTuple):
    """A computation, with its work.

    Attributes:
        run: Does it once.
        precision: Of its products.
        flops: Of the products as direct sums.
        bytes: That it has to move at least.
    """

    run: Callable[[], object]
    precision: str
    flops: int
    bytes: int


class Roofs(NamedTuple):
    """What the machine can do at most: FLOP/s by precision, and byte/s."""

    peaks: dict[str, float]
    bandwidth: float

    def limit(self, part: Part) -> float:
        """The highest FLOP/s that the roofs allow."""
        return min(self.peaks[part.precision], self.bandwidth * part.flops / part.bytes)


def parse() -> argparse.Namespace:
    options = parser(__doc__, batch_size=128, repeats=5)
    default = "(default: %(default)s)"
    options.add_argument("--layer", default="layer3", help=f"where prefix and suffix meet {default}")
    options.add_argument("--product", type=int, default=2048, help=f"rows and columns of the matrix product {default}")
    options.add_argument("--copy", type=int, default=256, help=f"MiB that the copy reads {default}")
    return options.parse_args()


def work(network: nn.Module, run: Callable[[], object]) -> tuple[int, int]:
    """Run once; return the FLOPs and the least bytes of the network's convolutions and linear layers.

    Forward, and where the output has a gradient also backward: that of the weight reads the output's gradient and the
    input, that of the input, where it has one, the output's gradient and the weight.
    """
    moved = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal moved
        passes = 1 + output.requires_grad + inputs[0].requires_grad
        moved += passes * (inputs[0].nbytes + output.nbytes + next(module.parameters()).nbytes)

    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    handles = [layer.register_forward_hook(count) for layer in layers]
    try:
        with FlopCounterMode(display=False) as counter:
            run()
    finally:
        for handle in handles:
            handle.remove()
    return counter.get_total_flops(), moved


def evaluated(function: Callable[..., object], *inputs: object) -> Callable[[], object]:
    def run() -> object:
        with torch.no_grad():
            return function(*inputs)

    return run


def chains_of(network: nn.Module, images: Tensor) -> dict[str, Part]:
    """The parts of a network in evaluation, one after the other."""
    modules = dict(network.named_children())
    stem = nn.Sequential(*(modules[name] for name in ("conv1", "bn1", "relu")))
    head = nn.Sequential(modules["avgpool"], nn.Flatten(), modules["fc"])
    parts, x = {}, images
    for name, chain in {"stem": stem, **{name: modules[name] for name in CHAINS}, "pool and fc": head}.items():
        run = evaluated(chain, x)
        parts[name] = Part(run, "float32", *work(network, run))
        with torch.no_grad():
            x = chain(x)
    return parts


def halves_of(network: nn.Module, images: Tensor, layer: str) -> dict[str, Part]:
    """The prefix, and the suffix in each scoring form."""
    split = SplitNetwork(network, layer)
    prefix = evaluated(split.prefix, images)
    parts = {"prefix": Part(prefix, "float32", *work(network, prefix))}
    with torch.no_grad():
        features = split.prefix(images)
    flops, moved = work(network, evaluated(split.suffix, features, split.params))
    batch = len(images)
    forms = {
        "plain": ScoringSettings.plain(batch),
        "folded, channels last": ScoringSettings(winograd=False, batch_size=batch),
        "folded, channels last, Winograd": ScoringSettings(batch_size=batch),
        "folded, channels last, bfloat16": ScoringSettings(precision="bfloat16", batch_size=batch),
    }
    for name, settings in forms.items():
        form = ScoringForm(split, features, settings)
        memory_format = torch.channels_last if settings.channels_last else torch.contiguous_format
        laid_out = tuple(
            feature.contiguous(memory_format=memory_format) if feature.ndim == 4 else feature for feature in features
        )
        half = settings.precision == "bfloat16"
        run = partial(form, laid_out, form.prepare(split.params))
        parts[f"suffix, {name}"] = Part(run, "bfloat16" if half else "float32", flops, moved // 2 if half else moved)
    return parts


def steps_of(make: Callable[[], nn.Module], images: Tensor, labels: Tensor) -> dict[str, Part]:
    """Plain training steps, forward and backward, each of a network of its own."""
    parts = {}
    for name, channels_last, precision in (
        ("plain step", False, "float32"),
        ("plain step, channels last", True, "float32"),
        ("plain step, channels last, bfloat16", True, "bfloat16"),
    ):
        network = make()
        memory_format = lay_out_channels_last(network) if channels_last else torch.contiguous_format
        run = partial(step, network, images.contiguous(memory_format=memory_format), labels, precision == "bfloat16")
        parts[name] = Part(run, precision, *work(network, run))
    return parts


def step(network: nn.Module, images: Tensor, labels: Tensor, low_precision: bool) -> None:
    with torch.autocast(images.device.type, torch.bfloat16, enabled=low_precision):
        loss = functional.cross_entropy(network(images), labels)
    torch.autograd.grad(loss, list(network.parameters()))


def peaks_of(arguments: argparse.Namespace, device: torch.device) -> dict[str, Part]:
    """Candidates for the peaks: matrix products, and the convolutions of the first chain and the third."""
    parts = {}
    for name, dtype in DTYPES.items():
        matrix = torch.randn(arguments.product, arguments.product).to(device, dtype)
        operations = {"matrix product": evaluated(torch.mm, matrix, matrix)}
        for factor in (1, 4):
            channels, size = factor * arguments.width, max(1, arguments.size // factor)
            images = torch.randn(arguments.batch_size, channels, size, size).to(device, dtype)
            weight = torch.randn(channels, channels, 3, 3).to(device, dtype)
            images, weight = (tensor.contiguous(memory_format=torch.channels_last) for tensor in (images, weight))
            operations[f"convolution, {channels} channels"] = evaluated(
                partial(functional.conv2d, padding=1), images, weight
            )
        for operation, run in operations.items():
            parts[f"{operation}, {name}"] = Part(run, name, work(nn.Identity(), run)[0], 0)
    return parts


def main() -> None:
    arguments = parse()
    device = torch.device(arguments.device)
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    console = Console()

    def make() -> nn.Module:
        return cifar_resnet18(width=arguments.width).to(device)

    images = torch.randn(arguments.batch_size, 3, arguments.size, arguments.size).to(device)
    labels = torch.randint(10, (arguments.batch_size,)).to(device)
    network = make().eval()
    parts = {
        **chains_of(network, images),
        **halves_of(network, images, arguments.layer),
        **steps_of(make, images, labels),
    }
    peaks = peaks_of(arguments, device)
    source = torch.ones(arguments.copy * 2**18, device=device)
    copy = partial(torch.empty_like(source).copy_, source)
    runs = {name: part.run for name, part in {**peaks, **parts}.items()}
    seconds = interleaved_seconds(
        {**runs, "copy": copy}, arguments.repeats, partial(wall_clock, device), console, "roofline"
    )
    rates = {name: part.flops / min(seconds[name]) for name, part in peaks.items()}
    roofs = Roofs(
        {name: max(rates[other] for other, part in peaks.items() if part.precision == name) for name in DTYPES},
        2 * source.nbytes / min(seconds["copy"]),
    )
    report_roofs(rates, roofs, console)
    medians = {name: statistics.median(seconds[name]) for name in parts}
    report(arguments, parts, medians, roofs, console)
    save(draw(arguments, parts, medians, roofs), Path(arguments.output) / "roofline.png", console)


def report_roofs(rates: dict[str, float], roofs: Roofs, console: Console) -> None:
    table = Table("candidate for a peak", "GFLOP/s", title="Roofs")
    for name, rate in rates.items():
        table.add_row(name, f"{rate / 1e9:.1f}" + (" (peak)" if rate in roofs.peaks.values() else ""))
    console.print(processor_line())
    console.print(table)
    console.print(f"memory bandwidth, by a copy: {roofs.bandwidth / 1e9:.1f} GB/s")
    for name, peak in roofs.peaks.items():
        console.print(f"{name}: compute bounds what does more than {peak / roofs.bandwidth:.1f} FLOP/byte")


def report(
    arguments: argparse.Namespace,
    parts: dict[str, Part],
    seconds: dict[str, float],
    roofs: Roofs,
    console: Console,
) -> None:
    table = Table(
        title=f"ResNet-18, width {arguments.width}, {arguments.size}×{arguments.size}, batch {arguments.batch_size}, "
        f"{arguments.device}, {arguments.threads} threads"
    )
    table.add_column("part")
    for heading in ("GFLOP", "MB", "FLOP/byte", "seconds", "GFLOP/s", "of the peak", "of its roof"):
        table.add_column(heading, justify="right")
    table.add_column("bound by")
    for name, part in parts.items():
        rate, limit, peak = part.flops / seconds[name], roofs.limit(part), roofs.peaks[part.precision]
        table.add_row(
            name,
            f"{part.flops / 1e9:.3g}",
            f"{part.bytes / 1e6:.3g}",
            f"{part.flops / part.bytes:.1f}",
            f"{seconds[name]:.4g}",
            f"{rate / 1e9:.1f}",
            f"{100 * rate / peak:.0f} %",
            f"{100 * rate / limit:.0f} %",
            f"{part.precision} arithmetic" if limit == peak else "memory",
        )
    console.print(table)


@in_style
def draw(arguments: argparse.Namespace, parts: dict[str, Part], seconds: dict[str, float], roofs: Roofs) -> Figure:
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    intensities = [part.flops / part.bytes for part in parts.values()]
    low, high = min(intensities) / 2, max(*intensities, *(peak / roofs.bandwidth for peak in roofs.peaks.values())) * 2
    for line, (name, peak) in zip(("-", "--"), roofs.peaks.items(), strict=True):
        corners = [low, peak / roofs.bandwidth, high]
        heights = [min(peak, x * roofs.bandwidth) / 1e9 for x in corners]
        axes.plot(corners, heights, line, color="black", linewidth=1, label=f"roof, {name}: {peak / 1e9:.3g} GFLOP/s")
    for index, (name, part) in enumerate(parts.items()):
        marker = {"float32": "o", "bfloat16": "s"}[part.precision]
        axes.plot(
            part.flops / part.bytes,
            part.flops / seconds[name] / 1e9,
            marker,
            color=COLOURS[index % len(COLOURS)],
            fillstyle="full" if index < len(COLOURS) else "none",
            label=name,
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(f"arithmetic intensity, FLOP/byte (memory: {roofs.bandwidth / 1e9:.3g} GB/s)")
    axes.set_ylabel("GFLOP/s")
    axes.set_title(f"ResNet-18, width {arguments.width}, batch {arguments.batch_size}, {arguments.device}", fontsize=9)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


if __name__ == "__main__":
    main()
