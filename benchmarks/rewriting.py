"""Rewriting a layer: what its parts cost against the naive procedure.

`moment`: the second moment of the layer's keys over images, against the plain forward pass up to the layer, and against
that of the whole network. `closed-form`: a rewrite whose second moment is at hand, inverse included, in seconds.
`descent`: projected descent with its plateau stop against the published 20,000 steps at a fixed learning rate of 1e-4:
how much longer these take, and the losses of both.

By default a ResNet-18 with random weights on random images; with `--vehicles`, EfficientNet-Lite0 and the exemplars
"snow behaves as road" in a folder with road-masks.json, imagenet-samples/ and vehicles-on-snow/.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from measuring import interleaved_seconds, parser, processor_line, wall_clock
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import resnet18

from editable.data import RewriteRule
from editable.models import efficientnet_lite0
from editable.rewriting import (
    ClosedForm,
    Exemplars,
    InverseMoment,
    LayerBlock,
    Memory,
    ProjectedDescent,
    RewriteProblem,
    collect_second_moment,
    exemplars_from_images,
    make_memory,
)

PUBLISHED_RATE, PUBLISHED_STEPS = 1e-4, 20_000


class Setting(NamedTuple):
    """What is rewritten: a layer, images for its second moment, and exemplars."""

    block: LayerBlock
    memory: Memory
    batches: list[Tensor]
    exemplars: Exemplars


def random_setting(layer: str, size: int, batch_size: int, images: int) -> Setting:
    """Smooth random images, so that neighbouring pixels are alike; the concept is the lower half, turned to grey."""
    smooth = functional.interpolate(torch.randn(images, 3, 8, 8), size, mode="bicubic")
    originals = smooth[:4].clone()
    manipulated, mask = originals.clone(), torch.zeros(4, size, size)
    mask[:, size // 2 :] = 1
    manipulated[:, :, size // 2 :] = 0.1 * torch.randn(4, 3, size - size // 2, size)
    return make_setting(resnet18().eval(), layer, smooth.split(batch_size), originals, manipulated, mask)


def vehicles_setting(layer: str, folder: Path, batch_size: int, images: int) -> Setting:
    rule = RewriteRule(str(folder / "road-masks.json"), texture=str(folder / "vehicles-on-snow/snow_texture.jpg"))
    originals, manipulated = ((some - 0.5) / 0.5 for some in (rule.originals, rule.manipulated))
    many = originals.repeat(-(-images // len(originals)), 1, 1, 1)[:images]
    return make_setting(efficientnet_lite0().eval(), layer, many.split(batch_size), originals, manipulated, rule.masks)


def make_setting(network: nn.Module, layer: str, batches: Sequence[Tensor], *rule: Tensor) -> Setting:
    block = LayerBlock(network, layer)
    memory = make_memory(tuple(block.weight.shape), block.geometry)
    return Setting(block, memory, list(batches), exemplars_from_images(block, *rule))


@torch.no_grad()
def forward(run: Callable[[Tensor], Tensor], batches: Sequence[Tensor]) -> None:
    for images in batches:
        run(images)


def show_moment(setting: Setting, repeats: int, console: Console) -> None:
    block, memory, batches, _ = setting
    runs = {
        "forward up to the layer": partial(forward, block.inputs, batches),
        "forward of the whole network": partial(forward, block.network, batches),
        "second moment": partial(collect_second_moment, block, memory, batches),
    }
    clock = partial(wall_clock, torch.device("cpu"))
    seconds = interleaved_seconds(runs, repeats, clock, console, "second moment")
    medians = {run: statistics.median(times) for run, times in seconds.items()}
    table = Table("run", "seconds", "to the forward up to the layer")
    for run, median in medians.items():
        table.add_row(run, f"{median:.3f}", f"{median / medians['forward up to the layer']:.2f}")
    console.print(table)


def show_closed_form(setting: Setting, console: Console) -> None:
    block, memory, batches, exemplars = setting
    moment = collect_second_moment(block, memory, batches)
    start = time.perf_counter()
    ClosedForm()(RewriteProblem(block, memory, exemplars, InverseMoment(moment)))
    console.print(f"closed form, second moment at hand: {time.perf_counter() - start:.3f} seconds")


def show_descent(setting: Setting, steps: int, console: Console) -> None:
    block, memory, batches, exemplars = setting
    inverse = InverseMoment(collect_second_moment(block, memory, batches))
    problem = RewriteProblem(block, memory, exemplars, inverse)
    fixed = ProjectedDescent(PUBLISHED_RATE, steps, patience=None)(problem)
    ours = ProjectedDescent()(problem)
    table = Table("projected descent", "steps", "seconds", "loss before", "loss", "time to the last")
    for title, result in ((f"{steps} steps at 1e-4", fixed), ("plateau stop (default)", ours)):
        figures = (f"{result.seconds:.2f}", f"{result.loss_before:.5f}", f"{result.loss:.5f}")
        table.add_row(title, str(result.num_steps), *figures, f"{result.seconds / ours.seconds:.1f}")
    console.print(table)


def main() -> None:
    made = parser(__doc__, batch_size=32, repeats=3)
    made.add_argument("row", nargs="*", default=["moment", "closed-form", "descent"], help="default: all")
    made.add_argument("--layer", help="default: layer2.0.conv1, with --vehicles _blocks.8._expand_conv")
    made.add_argument("--images", type=int, default=128, help="for the second moment (default: %(default)s)")
    made.add_argument("--steps", type=int, default=PUBLISHED_STEPS, help="of the fixed descent (default: %(default)s)")
    made.add_argument("--vehicles", type=Path, help="folder with real exemplars; needs the extra 'efficientnet'")
    made.set_defaults(size=224)
    options = made.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    if options.vehicles:
        layer = options.layer or "_blocks.8._expand_conv"
        setting = vehicles_setting(layer, options.vehicles, options.batch_size, options.images)
    else:
        layer = options.layer or "layer2.0.conv1"
        setting = random_setting(layer, options.size, options.batch_size, options.images)
    console = Console()
    network, size = type(setting.block.network).__name__, setting.batches[0].shape[-1]
    console.print(processor_line())
    console.print(f"{network}, {layer}, {options.images} images of {size} pixels, {options.threads} threads")
    if "moment" in options.row:
        show_moment(setting, options.repeats, console)
    if "closed-form" in options.row:
        show_closed_form(setting, console)
    if "descent" in options.row:
        show_descent(setting, options.steps, console)


if __name__ == "__main__":
    main()
