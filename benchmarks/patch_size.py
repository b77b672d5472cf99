"""How large patches are, as whole tensors and as the format holds them, and how long it takes to find that out.

    python benchmarks/patch_size.py                                              # a ResNet-18 of random weights
    python benchmarks/patch_size.py --weights data/cifar10-resnet18.safetensors

One random image is edited to its second class by each editor, in the layers named; the rank-one changes are those of a
rewrite in either memory, random. Each patch is put in and taken out again, and has to be exact.
"""

import argparse
import copy
import time
from collections.abc import Callable, Iterator, Mapping

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from editable.editing import GD, BaseEditor, Editor, EditPatch, EditSite, MinimalHarmEditor, RMSProp
from editable.editing.patches.coding import form
from editable.models import SplitNetwork, cifar_resnet18, fingerprint, load_weights

EDITORS: dict[tuple[str, str], Callable[[], BaseEditor]] = {
    ("GD", "layer4"): lambda: Editor(GD(0.01), max_steps=50),
    ("RMSProp", "layer4"): lambda: Editor(RMSProp(1e-4), max_steps=50),
    ("RMSProp", "layer3"): lambda: Editor(RMSProp(1e-4), max_steps=50),
    ("GD", "fc"): lambda: Editor(GD(0.1), max_steps=50),
    ("MinimalHarmEditor", "fc"): lambda: MinimalHarmEditor(num_references=100),
}
LAYER = "layer4.1.conv2.weight"


def changes(network: nn.Module) -> Iterator[tuple[str, Mapping[str, Tensor]]]:
    """Yield edited parameters, by what has changed them."""
    generator = torch.Generator().manual_seed(0)
    image, references = (torch.randn(number, 3, 32, 32, generator=generator) for number in (1, 100))
    with torch.no_grad():
        label = network(image).topk(2).indices[:, 1]
    for (name, layer), make in EDITORS.items():
        split = SplitNetwork(network, layer)
        site = EditSite(split, lambda number: [(references[:number], torch.zeros(number, dtype=torch.int64))])
        params = make().at(site)(split.suffix, dict(split.params), split.prefix(image), label).params
        yield f"{name}, {layer}", {key: some.detach() for key, some in params.items()}
    weight = network.state_dict()[LAYER]
    rows, columns = weight.shape[:2]
    for memory, side, number in (("patch", 0, rows), ("pixel", 1, columns)):
        u, v = (torch.randn(size, generator=generator) / 100 for size in (number, weight.numel() // number))
        change = torch.outer(u, v).view(weight.movedim(side, 0).shape).movedim(0, side)
        yield f"rank one, {memory} memory, {LAYER}", {LAYER: weight + change}
    few = weight.clone()
    few[0, 0, 0, 0] += 1
    few[-1, -1, 0, 0] += 1
    yield f"two entries, {LAYER}", {LAYER: few}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", help="of the network; by default random ones")
    parser.add_argument("--width", type=int, default=64, help="of the ResNet-18")
    parser.add_argument("--repeats", type=int, default=1, help="the shortest time of so many is told")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    network = cifar_resnet18(num_classes=10, width=arguments.width).eval()
    if arguments.weights is not None:
        load_weights(network, arguments.weights)
    table = Table("edit", "tensors held as", "whole, MB", "held, MB", "whole / held", "seconds")
    for name, params in changes(network):
        patch, seconds = EditPatch.of(network, {}), float("inf")
        for _ in range(arguments.repeats):
            start = time.perf_counter()
            patch = EditPatch.of(network, params)
            seconds = min(seconds, time.perf_counter() - start)
        other = copy.deepcopy(network)
        patch.apply_(other)
        patch.revert_(other)
        assert fingerprint(other.state_dict()) == patch.base
        whole = sum(params[key].nbytes for key in patch.names)
        large = max(patch.names, key=lambda key: params[key].nbytes)
        sizes = f"{whole / 1e6:.5f}", f"{patch.num_bytes / 1e6:.5f}", f"{whole / patch.num_bytes:.1f}"
        table.add_row(name, form(patch.changes[large]), *sizes, f"{seconds:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
