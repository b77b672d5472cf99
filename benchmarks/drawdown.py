"""Drawdown evaluation: prefix features kept and edits grouped, against the naive procedure.

Both make the same edits of a ResNet-18 and count the errors of each edited network on all images. The naive procedure
deep-copies the network for each edit, edits the copy in place and runs the whole of it over every image. The package
computes the features before the first edited layer once. Rounds alternate between the two, and the medians count. Time
that the package spends once, on the unedited network, is shown apart and not shared out over the few edits here.
Seconds are processor time on a CPU.
"""

import argparse
import statistics
from pathlib import Path

import torch
from naive import Step, clock, gd, naive_edit, naive_errors, rmsprop
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from editable.data.edit_streams import RandomLabelEdits
from editable.editing import GD, EditEvaluator, Editor, EditOutcomes, RMSProp
from editable.models import SplitNetwork, cifar_resnet18

RULES = {"GD": (GD, gd), "RMSProp": (RMSProp, rmsprop)}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="file of torch.save({'images': [N,3,H,W], 'labels': [N]})")
    parser.add_argument("--weights", type=Path, help="file of the network's state dict; random weights by default")
    parser.add_argument("--images", type=int, default=500, help="number of random images (default: 500)")
    parser.add_argument("--edits", type=int, default=6, help="number of edits (default: 6)")
    parser.add_argument("--rule", choices=list(RULES), default="RMSProp", help="update rule (default: RMSProp)")
    parser.add_argument("--learning-rate", type=float, default=1e-4, help="of the update rule (default: 1e-4)")
    parser.add_argument("--layer", default="layer3", help="which parameters are edited (default: layer3)")
    parser.add_argument("--steps", type=int, default=10, help="k, the most updates (default: 10)")
    parser.add_argument("--batch-size", type=int, default=100, help="images at once (default: 100)")
    parser.add_argument("--edits-at-once", type=int, default=1, help="edits computed together (default: 1)")
    parser.add_argument("--width", type=int, default=64, help="channels of the first chain (default: 64)")
    parser.add_argument("--size", type=int, default=32, help="height and width of random images (default: 32)")
    parser.add_argument("--repeats", type=int, default=3, help="rounds, of which the median counts (default: 3)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--threads", type=int, default=1, help="threads on a CPU (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="seed of random weights and images (default: 0)")
    return parser.parse_args()


def load(arguments: argparse.Namespace) -> tuple[nn.Module, Tensor, Tensor]:
    """Return network, images and labels; random ones are labelled by the network, with a fifth of them wrong."""
    torch.manual_seed(arguments.seed)
    network = cifar_resnet18(width=arguments.width)
    if arguments.weights:
        network.load_state_dict(torch.load(arguments.weights, weights_only=True))
    network = network.to(arguments.device)
    if arguments.data:
        data = torch.load(arguments.data, weights_only=True)
        return network.eval(), data["images"], data["labels"]
    images = torch.randn(arguments.images, 3, arguments.size, arguments.size)
    if not arguments.weights:  # statistics of these images, so that random weights tell them apart
        with torch.no_grad():
            for batch in images[:200].split(50):
                network.train()(batch.to(arguments.device))
    with torch.no_grad():
        batches = images.split(arguments.batch_size)
        labels = torch.cat([network.eval()(batch.to(arguments.device)).argmax(dim=1).cpu() for batch in batches])
    labels[::5] = (labels[::5] + 1) % 10
    return network, images, labels


def main() -> None:
    arguments = parse()
    device = torch.device(arguments.device)
    torch.set_num_threads(arguments.threads)
    network, images, labels = load(arguments)
    batches = list(zip(images.split(arguments.batch_size), labels.split(arguments.batch_size), strict=True))
    split = SplitNetwork(network, arguments.layer)
    make_rule, make_step = RULES[arguments.rule]
    editor = Editor(make_rule(arguments.learning_rate), arguments.steps)
    evaluator = EditEvaluator(split, editor, batches, device, edits_at_once=arguments.edits_at_once)
    start = clock(device)
    base = evaluator.measure_base()
    once = clock(device) - start
    edits = RandomLabelEdits()(base.labels, base.predictions, base.num_classes, arguments.edits)
    dataset = list(zip(images, labels.tolist(), strict=True))
    seconds: dict[str, list[float]] = {"naive": [], "ours": []}
    for _ in range(arguments.repeats):
        start = clock(device)
        naive = [
            run_naive(
                network, split.names, make_step(arguments.learning_rate), images[index], label, batches, arguments
            )
            for index, label in zip(edits.indices.tolist(), edits.labels.tolist(), strict=True)
        ]
        seconds["naive"].append((clock(device) - start) / arguments.edits)
        start = clock(device)
        ours = evaluator.score(dataset, edits.indices, edits.labels)
        seconds["ours"].append((clock(device) - start) / arguments.edits)
    report(arguments, seconds, once, naive, ours, evaluator)


def run_naive(
    network: nn.Module,
    names: tuple[str, ...],
    step: Step,
    image: Tensor,
    label: int,
    batches: list[tuple[Tensor, Tensor]],
    arguments: argparse.Namespace,
) -> tuple[bool, int, int]:
    """Make one edit; return success, number of steps, and errors afterwards."""
    device = arguments.device
    target = torch.tensor([label], device=device)
    edited, success, num_steps = naive_edit(network, names, step, image[None].to(device), target, arguments.steps)
    return success, num_steps, naive_errors(edited, ((x.to(device), y.to(device)) for x, y in batches))


def report(
    arguments: argparse.Namespace,
    seconds: dict[str, list[float]],
    once: float,
    naive: list[tuple[bool, int, int]],
    ours: EditOutcomes,
    evaluator: EditEvaluator,
) -> None:
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    table = Table(
        "procedure", "seconds per edit", "naive / this",
        title=(
            f"{arguments.edits} edits by {arguments.rule} on {arguments.layer}, {evaluator.num_images} images, "
            f"width {arguments.width}, {arguments.device}"
        ),
    )  # fmt: skip
    for name, median in medians.items():
        table.add_row(name, f"{median:.3f}", f"{medians['naive'] / median:.2f}")
    console = Console()
    console.print(table)
    console.print(f"unedited network, once: {once:.2f} s; features kept: {evaluator.keeps_features}")
    fields = zip(("success", "number of steps", "errors after"), zip(*naive, strict=True), ours, strict=True)
    for name, expected, found in fields:
        agree = sum(bool(a == b) for a, b in zip(expected, found.tolist(), strict=True))
        console.print(f"{name}: {agree} of {arguments.edits} edits agree")
    console.print(f"errors before: {evaluator.errors_before}, after (naive): {[errors for _, _, errors in naive]}")


if __name__ == "__main__":
    main()
