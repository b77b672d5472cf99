"""What is chosen for a card without having been measured on one, each with the plain way beside it.

`device.py` shows it: a ratio below 1 says that the choice was right.
"""

import argparse
import statistics
from collections.abc import Callable
from functools import partial
from io import BytesIO
from typing import NamedTuple

import numpy as np
import torch
from measuring import interleaved_seconds, wall_clock
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from editable.data.images.nvjpeg import decode_on_device
from editable.data.images.reader import read_image_bytes
from editable.editing import Editor, RMSProp
from editable.editing.evaluation.feature_store import FeatureStore
from editable.editing.evaluation.low_rank_scoring import low_rank_changes, predict_low_rank
from editable.editing.graphs.static_edits import many_edits
from editable.models import ScoringForm, ScoringSettings, SplitNetwork, cifar_resnet18, linear_tail
from editable.models.machine.devices import to_device
from editable.models.machine.full_precision import full_precision
from editable.models.machine.graphs import Graphs
from editable.rewriting import SecondMoment

BATCH = 512
LOW_RANK_EDITS = 1000


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
    decoders = decoding()
    photographs = {} if decoders is None else {f"{BATCH} photographs of 500×375 decoded by nvJPEG": decoders}
    return photographs | {
        f"{options.edits} edits together by a graph, group after group": Choice(
            *(edits(split, features, options, Graphs(device, wanted)) for wanted in (False, True))
        ),
        f"{len(images)} images through an edited network by a graph": Choice(
            *(scoring(split, features, wanted) for wanted in ("never", "auto"))
        ),
        f"{LOW_RANK_EDITS} edits of the last layer on {options.images} images in bfloat16": Choice(
            *low_rank(network, options, device)
        ),
        "second moment of a batch's keys, products in float32": Choice(
            *(moment(options, device, dtype) for dtype in (torch.float64, torch.float32))
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


def low_rank(
    network: nn.Module, options: argparse.Namespace, device: torch.device
) -> tuple[Callable[[], object], Callable[[], object]]:
    """Rank-one edits as one product, without the second look at what rounding could decide."""
    split = SplitNetwork(network, ["fc"])
    weight = split.params["fc.weight"].detach()
    store = FeatureStore(options.images, 2**40, device)
    features = torch.randn(options.images, weight.shape[1]).to(device)
    store.add((features,), torch.zeros(options.images, dtype=torch.int64))
    tail = linear_tail(split, (features[:2],))
    assert tail is not None
    left, right = (torch.randn(LOW_RANK_EDITS, size).to(device) for size in weight.shape)
    edited = [{"fc.weight": torch.addr(weight, *pair, alpha=0.01)} for pair in zip(left, right, strict=True)]
    changes, _ = low_rank_changes(tail, edited)

    def nothing(edits: float) -> None: ...

    return tuple(partial(predict_low_rank, tail, store, changes, nothing, low) for low in (None, torch.bfloat16))


def moment(options: argparse.Namespace, device: torch.device, dtype: torch.dtype) -> Callable[[], object]:
    """Keys of a 3×3 convolution of layer3, at every position of a batch, in the precision of their products."""
    keys = torch.randn(32, 36 * options.width, options.size**2 // 16).to(device, dtype)
    return partial(SecondMoment(keys.shape[1], device).update, keys)


def decoding() -> Choice | None:
    """Decode a smooth photograph many times, by Pillow in one process and by nvJPEG; none where there is no nvJPEG."""
    waves = np.linspace(0, 9, 375)[:, None, None] + np.linspace(0, 7, 500)[:, None] + np.arange(3)
    file = BytesIO()
    Image.fromarray((127 + 120 * np.sin(waves)).astype(np.uint8)).save(file, "JPEG", quality=90)
    contents = [file.getvalue()] * BATCH
    try:
        decode_on_device(contents[:1])
    except RuntimeError:
        return None
    return Choice(
        lambda: [read_image_bytes(content, "photograph") for content in contents], partial(decode_on_device, contents)
    )


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
