"""Edits of a batch together by `vmap`, or one by one: which costs less depends on how many bytes they change.

Each edit is of one image, with k forced steps of RMSProp (the margin is out of reach), as in evaluation and as in
training, where the gradients of all parameters are taken at its end. Seconds are processor time on a CPU for one edit;
the least of some rounds counts, since other programs can only lengthen it.
"""

import argparse
import gc
from unittest.mock import patch

import torch
from measuring import processor_line
from naive import clock
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

from editable.editing import Editor, RMSProp
from editable.models import SplitNetwork, add_extra_layer, cifar_resnet18
from editable.models.split.form_table import FORMS, form_of

UNREACHABLE = 1e6  # margin in nats
EXTRA_LAYER = "extra_layer"


def make(editor: Editor, split: SplitNetwork, samples: tuple[Tensor, ...], training: bool, one_by_one: bool) -> None:
    labels = torch.full((len(samples[0]), 1), 3, device=samples[0].device)
    suffix = split.unrolled_suffix() if training else split.edit_suffix
    kind = samples[0].device.type
    with patch.dict(FORMS, {kind: form_of(kind)._replace(one_by_one_bytes=0 if one_by_one else None)}):
        result = editor.edit_many(suffix, split.params, samples, labels, differentiable=training)
    if training:
        value = result.loss.sum() + sum(edited.square().sum() for edited in result.params.values())
        torch.autograd.grad(value, list(split.network.parameters()), allow_unused=True)


def network_for(layer: str, width: int) -> nn.Module:
    network = cifar_resnet18(width=width)
    return add_extra_layer(network) if layer == EXTRA_LAYER else network


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = "(default: %(default)s)"
    parser.add_argument("--layers", nargs="+", default=["layer3", EXTRA_LAYER, "layer4"], help=f"edited {default}")
    parser.add_argument("--width", type=int, default=64, help=f"channels of the first chain {default}")
    parser.add_argument("--size", type=int, default=32, help=f"height and width of the images {default}")
    parser.add_argument("--numbers", type=int, nargs="+", default=[1, 2, 4, 8], help=f"edits of a batch {default}")
    parser.add_argument("--steps", type=int, default=4, help=f"k, the number of updates {default}")
    parser.add_argument("--repeats", type=int, default=2, help=f"rounds after the one that warms up {default}")
    parser.add_argument("--threads", type=int, default=1, help=f"threads on a CPU {default}")
    parser.add_argument("--device", default="cpu", help=f"cpu or cuda {default}")
    parser.add_argument("--seed", type=int, default=0, help=f"seed of weights and images {default}")
    return parser.parse_args()


def main() -> None:
    options = parse()
    device, console = torch.device(options.device), Console()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    editor = Editor(RMSProp(1e-6), options.steps, UNREACHABLE)
    images = torch.randn(max(options.numbers), 3, options.size, options.size, device=device)
    table = Table("edits of", "MiB", "", *(f"{number}: one by one, together" for number in options.numbers))
    for layer in track(options.layers, "layers", console=console):
        split = SplitNetwork(network_for(layer, options.width).to(device).eval(), layer)
        mebibytes = sum(param.nbytes for param in split.params.values()) / 2**20
        for training in (False, True):
            cells = []
            for number in options.numbers:
                with torch.no_grad():
                    samples = tuple(feature.unsqueeze(1) for feature in split.edit_prefix(images[:number]))
                least = [float("inf"), float("inf")]
                for _ in range(options.repeats + 1):
                    for way, one_by_one in enumerate((True, False)):
                        gc.collect()
                        start = clock(device)
                        make(editor, split, samples, training, one_by_one)
                        least[way] = min(least[way], (clock(device) - start) / number)
                cells.append(f"{least[0]:.3f}, {least[1]:.3f}")
            table.add_row(layer, f"{mebibytes:.1f}", "training" if training else "evaluation", *cells)
    console.print(processor_line())
    console.print(table)


if __name__ == "__main__":
    main()
