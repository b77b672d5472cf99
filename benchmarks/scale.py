"""A thousand edits on ImageNet by 8, 64 and 512 GPUs: how long it would take, what is moved, and what bounds it.

Work is counted on this machine, by running it: multiply-adds and kernels of one step of an edit, of an image through
the unedited network, and of an image through the layers behind the edited one; bytes of features. What a GPU, a core
and a disk do with it is assumed, by options. From both follows the time of each part for each process, by what the
package shares out: edits, and images of the unedited pass, of which features are told to all. In the second table each
process reads all images.

    python benchmarks/scale.py                                  # ResNet-50, 50,000 images, edits scored on every tenth
    python benchmarks/scale.py --network resnet18 --stride 1    # scored on all
"""

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from rich.console import Console
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from editable.editing import Editor, RMSProp
from editable.models import SplitNetwork, torchvision_model
from editable.tables import Table

OUTCOME = 64  # bytes that a process tells of an edit
IMAGE_BYTES = 110_000  # a file of ImageNet's validation images, on average
COUNTED = 2  # images; the operations of a batch are in proportion
UNREACHABLE = 1e4  # margin in nats: an edit takes all of its steps


@dataclass(frozen=True)
class Work:
    """Multiply-adds, doubled, and kernels of one call."""

    operations: float
    kernels: int

    def seconds(self, gpu: "Gpu") -> float:
        """Return how long it takes."""
        return max(self.operations / gpu.operations, self.kernels * gpu.launch)


@dataclass(frozen=True)
class Gpu:
    """What is assumed: operations a second that are reached, and seconds to start a kernel."""

    operations: float
    launch: float


@dataclass(frozen=True)
class Costs:
    """What was counted: of an image through the whole network, of a step of an edit, of a batch behind the layer."""

    base: Work
    step: Work
    scoring: Work
    batch_size: int
    feature_bytes: int


class Kernels(TorchDispatchMode):
    """Counts what is called."""

    number = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.number += 1
        return func(*args, **(kwargs or {}))


def counted(call: Callable[[], object]) -> Work:
    kernels = Kernels()
    with FlopCounterMode(display=False) as operations:
        call()
    with kernels:
        call()
    return Work(operations.get_total_flops(), kernels.number)


def costs_of(arguments: argparse.Namespace) -> Costs:
    torch.manual_seed(0)
    network = torchvision_model(arguments.network).eval()
    split = SplitNetwork(network, [arguments.layer])
    images = torch.randn(COUNTED, 3, arguments.size, arguments.size)
    with torch.no_grad():
        features = split.prefix(images)
        of_few = counted(lambda: network(images)), counted(lambda: split.suffix(features, split.params))
    base, scoring = (Work(few.operations * arguments.batch_size / COUNTED, few.kernels) for few in of_few)
    sample, label = tuple(feature[:1] for feature in features), torch.tensor([7])
    one, several = (
        counted(lambda k=k: Editor(RMSProp(1e-4), k, UNREACHABLE)(split.suffix, split.params, sample, label))
        for k in (1, 3)
    )
    step = Work((several.operations - one.operations) / 2, (several.kernels - one.kernels) // 2)
    feature_bytes = sum(feature[0].numel() * feature.element_size() for feature in features)
    return Costs(base, step, scoring, arguments.batch_size, feature_bytes)


def simulated(costs: Costs, arguments: argparse.Namespace, gpus: int, shares_images: bool) -> list[tuple[str, float]]:
    """Return the seconds of each part of the process that has most to do."""
    gpu = Gpu(arguments.tera * 1e12, arguments.launch * 1e-6)
    edits = math.ceil(arguments.edits / gpus)
    images = math.ceil(arguments.images / gpus) if shares_images else arguments.images
    scored = math.ceil(arguments.images / arguments.stride)
    parts = [
        ("reading", gpus * images * IMAGE_BYTES / (arguments.disk * 1e9)),
        ("decoding", images / (arguments.workers * arguments.decoded)),
        ("unedited pass", math.ceil(images / costs.batch_size) * costs.base.seconds(gpu)),
        ("edits", edits * arguments.steps * costs.step.seconds(gpu)),
        ("scoring", edits * math.ceil(scored / costs.batch_size) * costs.scoring.seconds(gpu)),
        ("messages", arguments.edits * OUTCOME / (arguments.net * 1e9) + 1e-4 * math.log2(max(2, gpus))),
    ]
    if shares_images:
        parts.append(("features", scored * costs.feature_bytes / (arguments.net * 1e9)))
    return parts


def total(parts: list[tuple[str, float]]) -> float:
    """Return the seconds of all: reading, decoding and the unedited pass go on at once, the rest one by one."""
    times = dict(parts)
    at_once = max(times.pop(name) for name in ("reading", "decoding", "unedited pass"))
    return at_once + sum(times.values())


def rows_of(costs: Costs, arguments: argparse.Namespace, shares_images: bool) -> list[list[str]]:
    rows = []
    for gpus in arguments.gpus:
        parts = simulated(costs, arguments, gpus, shares_images)
        bound = max(parts, key=lambda part: part[1])[0]
        read = (arguments.images if shares_images else arguments.images * gpus) * IMAGE_BYTES / 1e9
        times = [*(seconds for _, seconds in parts), total(parts), read]
        rows.append([str(gpus), *(f"{value:.2g}" if value < 10 else f"{value:.0f}" for value in times), bound])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default, assumed = "(default: %(default)s)", "(assumed: %(default)s)"
    parser.add_argument("--network", default="resnet50", help=f"of torchvision {default}")
    parser.add_argument("--layer", default="layer3", help=f"that is edited {default}")
    parser.add_argument("--size", type=int, default=224, help=f"height and width of images {default}")
    parser.add_argument("--batch-size", type=int, default=128, help=f"images in a batch {default}")
    parser.add_argument("--gpus", type=int, nargs="+", default=[8, 64, 512], help="numbers of GPUs (default: 8 64 512)")
    parser.add_argument("--edits", type=int, default=1000, help=f"edits {default}")
    parser.add_argument("--steps", type=int, default=4, help=f"of an edit, on average {default}")
    parser.add_argument("--images", type=int, default=50_000, help=f"test images {default}")
    parser.add_argument("--stride", type=int, default=10, help=f"every how many-th is scored {default}")
    parser.add_argument("--tera", type=float, default=30.0, help=f"10¹² operations a second of a GPU {assumed}")
    parser.add_argument("--launch", type=float, default=5.0, help=f"microseconds to start a kernel {assumed}")
    parser.add_argument("--workers", type=int, default=10, help=f"cores that decode for each GPU {assumed}")
    parser.add_argument("--decoded", type=float, default=800.0, help=f"images a second of such a core {assumed}")
    parser.add_argument("--disk", type=float, default=20.0, help=f"GB a second of the shared disk {assumed}")
    parser.add_argument("--net", type=float, default=10.0, help=f"GB a second between processes {assumed}")
    arguments = parser.parse_args()
    console = Console()
    costs = costs_of(arguments)
    counts = [
        (f"a batch of {costs.batch_size} images through the network", costs.base),
        ("a step of an edit", costs.step),
        (f"a batch through the layers from {arguments.layer} on", costs.scoring),
    ]
    rows = [[what, f"{work.operations / 1e9:.4g}", str(work.kernels)] for what, work in counts]
    console.print(Table(("counted", "10⁹ operations", "kernels"), rows).terminal())
    console.print(f"features of an image: {costs.feature_bytes / 1e6:.3g} MB")
    parts = ["reading", "decoding", "unedited pass", "edits", "scoring", "messages"]
    for shares_images, what in ((True, "as it is: edits and images are shared out"), (False, "if edits alone were")):
        names = [*parts, *(["features"] if shares_images else [])]
        titles = ["GPUs", *names, "seconds in all", "GB read", "bound by"]
        table = Table(titles, rows_of(costs, arguments, shares_images))
        console.print(what)
        console.print(table.markdown(), markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
