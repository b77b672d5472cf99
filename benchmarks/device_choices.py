"""What is chosen for a card without having been measured on one, each with the plain way beside it.

`device.py` shows it: a ratio below 1 says that the choice was right.
"""

import argparse
import statistics
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from measuring import interleaved_seconds, wall_clock
from rich.console import Console
from rich.table import Table
from torch import Tensor

from editable.editing import Editor, RMSProp
from editable.editing.graphs.static_edits import many_edits
from editable.models import ScoringForm, ScoringSettings, SplitNetwork, cifar_resnet18
from editable.models.devices import to_device
from editable.models.full_precision import full_precision
from editable.models.graphs import Graphs

BATCH = 512


class Choice(NamedTuple):
    """Something that can be done in two ways."""

    plain: Callable[[], object]
    chosen: Callable[[], object]


def choices(options: argparse.Namespace, device: torch.device) -> dict[str, Choice]:
    """Make everything that is compared."""
    torch.manual_seed(options.seed)
    network = cifar_resnet18(width=options.width).to(device).eval()
    split = SplitNetwork(network, ["layer3"])
    images = torch.randn(min(BATCH, options.images), 3, options.size, options.size)
    with torch.no_grad():
        features = split.prefix(to_device(images, device))
    return {
        f"{options.edits} edits together by a graph, group after group": Choice(
            *(edits(split, features, options, Graphs(device, wanted)) for wanted in (False, True))
        ),
        f"{len(images)} images through an edited network by a graph": Choice(
            *(scoring(split, features, wanted) for wanted in ("never", "auto"))
        ),
    }


def edits(
    split: SplitNetwork, features: tuple[Tensor, ...], options: argparse.Namespace, graphs: Graphs
) -> Callable[[], object]:
    editor = Editor(RMSProp(learning_rate=1e-4), options.steps, margin=1e4)
    inputs = tuple(feature[: options.edits].unsqueeze(1) for feature in features)
    labels = torch.arange(len(inputs[0])).remainder(10).unsqueeze(1)
    return partial(many_edits(editor, graphs), split.edit_suffix, split.params, inputs, labels)


def scoring(split: SplitNetwork, features: tuple[Tensor, ...], graphs: str) -> Callable[[], object]:
    form = ScoringForm(split, features, ScoringSettings(batch_size=len(features[0]), graphs=graphs))
    weights = form.prepare({name: 1.01 * value.detach() for name, value in split.params.items()})
    return partial(form, features, weights)


def show_choices(options: argparse.Namespace, device: torch.device, console: Console) -> None:
    """Print the seconds of each way, and those of the chosen one to those of the plain one."""
    found = choices(options, device)

    def run(once: Callable[[], object]) -> None:
        with full_precision():
            once()

    runs = {(name, way): partial(run, getattr(choice, way)) for name, choice in found.items() for way in Choice._fields}
    seconds = interleaved_seconds(runs, options.repeats, partial(wall_clock, device), console, "choices")
    table = Table("choice", "seconds without", "with", "ratio")
    for name in found:
        plain, chosen = (statistics.median(seconds[name, way]) for way in Choice._fields)
        table.add_row(name, f"{plain:.5f}", f"{chosen:.5f}", f"{chosen / plain:.2f}")
    console.print(table)
