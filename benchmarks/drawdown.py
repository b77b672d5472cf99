"""Drawdown evaluation against the naive procedure: copy the network, edit the copy, run the whole of it on every image.

    python benchmarks/drawdown.py exact         # all images, float32
    python benchmarks/drawdown.py fastest       # all images, bfloat16, with a second look at doubtful ones
    python benchmarks/drawdown.py sampled       # half-width 0.1 point over 1000 edits, against the naive exact figure
    python benchmarks/drawdown.py extra-layer   # edits of an extra layer before the classifier, all images, float32

The naive procedure works edit by edit, in float32, contiguous, in batches of 128. Rounds alternate between the two, and
medians count. Where the naive procedure is too slow for all images, its time on some of them is scaled up. What the
package does once, on the unedited network, is shown apart and shared out over 1000 edits. An edit that asks for what
the network predicts already costs the package nothing: such are left out, but for `sampled`, which takes the first
edits of the published protocol as they come, fewer than 1000 of them, with the half-width that gives each as large a
sample as 1000 would need, and a pilot as large.

Without data, weights and images are random, and labels such that the network gets four fifths right. With --weights
and --root, they are a real network's and the test set of CIFAR-10 as an image folder. `fastest` needs these: a network
of random weights is so undecided that most images would be doubtful; and so does `sampled`, whose sample size depends
on the drawdown.
"""

import argparse
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from measuring import processor_line, wall_clock
from naive import clock as processor_clock
from naive import naive_edit, naive_errors, rmsprop
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from editable.data import Edits, ImageFolderDataModule, RandomLabelEdits
from editable.editing import BasePredictions, EditEvaluator, Editor, EditOutcomes, RMSProp, SamplingSettings
from editable.models import ScoringSettings, SplitNetwork, add_extra_layer, cifar_resnet18, load_weights

PUBLISHED_EDITS = 1000
HALF_WIDTH = 0.001
BATCH = 128
CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("row", choices=["exact", "fastest", "sampled", "extra-layer"], help="what to measure")
    parser.add_argument("--weights", type=Path, help="weights of a ResNet-18 for small images; random by default")
    parser.add_argument("--root", type=Path, help="image folder whose test set is used; random images by default")
    parser.add_argument("--images", type=int, help="number of images (default: 1000, sampled: 10000)")
    parser.add_argument("--naive-images", type=int, default=1000, help="how many of them naively (default: 1000)")
    parser.add_argument("--edits", type=int, help="edits in a round (default: 8, sampled: 40)")
    parser.add_argument("--naive-edits", type=int, default=1, help="how many of them naively (default: 1)")
    parser.add_argument("--learning-rate", type=float, default=3e-5, help="of RMSProp (default: 3e-5)")
    parser.add_argument("--layer", default="layer3", help="which parameters are edited (default: layer3)")
    parser.add_argument("--steps", type=int, default=10, help="k, the most updates (default: 10)")
    parser.add_argument("--edits-at-once", type=int, default=4, help="edits computed together (default: 4)")
    parser.add_argument("--batch-size", type=int, help="images scored together (default: the package's own)")
    parser.add_argument("--precision", choices=["full", "bfloat16"], help="of scoring (default: as the row says)")
    parser.add_argument("--compile", action="store_true", help="run the scoring form through torch.compile")
    parser.add_argument("--width", type=int, default=64, help="channels of the first chain (default: 64)")
    parser.add_argument("--size", type=int, default=32, help="height and width of random images (default: 32)")
    parser.add_argument("--repeats", type=int, default=3, help="rounds, of which the median counts (default: 3)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--threads", type=int, default=2, help="threads on a CPU (default: 2)")
    parser.add_argument(
        "--processor-seconds", action="store_true", help="count processor seconds, which other programs do not lengthen"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of random weights and images (default: 0)")
    arguments = parser.parse_args()
    sampled = arguments.row == "sampled"
    arguments.images = arguments.images or (10_000 if sampled else 1000)
    arguments.edits = arguments.edits or (40 if sampled else 8)
    arguments.naive_images = min(arguments.naive_images, arguments.images)
    arguments.naive_edits = min(arguments.naive_edits, arguments.edits)
    if arguments.row == "extra-layer":
        arguments.layer = "*extra_layer*"
    return arguments


def load(arguments: argparse.Namespace) -> tuple[nn.Module, Dataset]:
    """Return network and data set; random images are labelled by the network, with a fifth of them wrong."""
    torch.manual_seed(arguments.seed)
    network = cifar_resnet18(width=arguments.width)
    if arguments.weights:
        load_weights(network, str(arguments.weights))
    if arguments.row == "extra-layer":
        network = add_extra_layer(network)
        for parameter in network.parameters():  # as after training: starting from zero only half of it would move
            if not parameter.any():
                nn.init.normal_(parameter, std=0.01)
    network = network.to(arguments.device)
    if arguments.root:
        datamodule = ImageFolderDataModule(str(arguments.root), mean=CIFAR10_MEAN, std=CIFAR10_STD, num_workers=0)
        datamodule.setup("test")
        dataset = datamodule.test_dataloader().dataset
        return network.eval(), torch.utils.data.Subset(dataset, range(arguments.images))
    images = torch.randn(arguments.images, 3, arguments.size, arguments.size)
    if not arguments.weights:  # statistics of these images, so that random weights tell them apart
        with torch.no_grad():
            for batch in images[:200].split(50):
                network.train()(batch.to(arguments.device))
    with torch.no_grad():
        logits = [network.eval()(batch.to(arguments.device)).cpu() for batch in images.split(BATCH)]
    labels = torch.cat(logits).argmax(dim=1)
    labels[::5] = (labels[::5] + 1) % 10
    return network, TensorDataset(images, labels)


def make_evaluator(arguments: argparse.Namespace, network: nn.Module, dataset: Dataset) -> EditEvaluator:
    """Set up the package's evaluation for the row."""
    device = torch.device(arguments.device)
    settings = vars(ScoringSettings.for_device(device)) | {"compile": arguments.compile}
    settings["batch_size"] = arguments.batch_size or settings["batch_size"]
    settings["precision"] = arguments.precision or ("bfloat16" if arguments.row == "fastest" else "full")
    sampling = None
    if arguments.row == "sampled":
        sampling = SamplingSettings(half_width=HALF_WIDTH * (PUBLISHED_EDITS / arguments.edits) ** 0.5)
    return EditEvaluator(
        SplitNetwork(network, arguments.layer),
        Editor(RMSProp(arguments.learning_rate), arguments.steps),
        DataLoader(dataset, batch_size=BATCH),
        arguments.images,
        device,
        edits_at_once=arguments.edits_at_once,
        scoring=ScoringSettings(**settings),
        sampling=sampling,
    )


def clock_of(arguments: argparse.Namespace) -> Callable[[], float]:
    return partial(processor_clock if arguments.processor_seconds else wall_clock, torch.device(arguments.device))


class Naive:
    """The naive procedure: seconds that edits and images take, and what became of the edits."""

    def __init__(self, arguments: argparse.Namespace, network: nn.Module, dataset: Dataset) -> None:
        self.arguments, self.network, self.dataset = arguments, network, dataset
        self.names = SplitNetwork(network, arguments.layer).names
        loader = DataLoader(torch.utils.data.Subset(dataset, range(arguments.naive_images)), batch_size=BATCH)
        self.batches = [(images.to(arguments.device), labels.to(arguments.device)) for images, labels in loader]
        self.edit_seconds: list[float] = []
        self.image_seconds: list[float] = []
        self.outcomes: list[tuple[bool, int, int]] = []

    def run(self, index: int, label: int) -> None:
        """Make one edit and count its errors."""
        device, clock = self.arguments.device, clock_of(self.arguments)
        image, target = self.dataset[index][0][None].to(device), torch.tensor([label], device=device)
        start = clock()
        step = rmsprop(self.arguments.learning_rate)
        edited, success, num_steps = naive_edit(self.network, self.names, step, image, target, self.arguments.steps)
        middle = clock()
        errors = naive_errors(edited, self.batches)
        self.edit_seconds.append(middle - start)
        self.image_seconds.append((clock() - middle) / self.arguments.naive_images)
        self.outcomes.append((success, num_steps, errors))

    def seconds_per_edit(self) -> float:
        """Seconds for an edit and for all images after it."""
        return statistics.median(self.edit_seconds) + self.arguments.images * statistics.median(self.image_seconds)


def choose_edits(arguments: argparse.Namespace, base: BasePredictions) -> Edits:
    """Take the first published edits; where all images are scored, only those that need a step."""
    edits = RandomLabelEdits()(base.labels, base.predictions, base.num_classes, min(1000, arguments.images))
    if arguments.row != "sampled":
        costly = edits.labels != base.predictions[edits.indices]
        edits = Edits(edits.indices[costly], edits.labels[costly])
    return Edits(edits.indices[: arguments.edits], edits.labels[: arguments.edits])


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    clock = clock_of(arguments)
    network, dataset = load(arguments)
    evaluator, naive = make_evaluator(arguments, network, dataset), Naive(arguments, network, dataset)
    start = clock()
    base = evaluator.measure_base()
    once = clock() - start
    edits = choose_edits(arguments, base)
    seconds = []
    for _ in track(range(arguments.repeats), "rounds"):
        naive.outcomes.clear()
        for index, label in list(zip(*(field.tolist() for field in edits), strict=True))[: arguments.naive_edits]:
            naive.run(index, label)
        start = clock()
        outcomes = evaluator.score(dataset, edits.indices, edits.labels)
        seconds.append((clock() - start) / arguments.edits)
    ours = statistics.median(seconds) + once / PUBLISHED_EDITS
    report(arguments, naive, ours, once, evaluator, outcomes)


def report(
    arguments: argparse.Namespace,
    naive: Naive,
    ours: float,
    once: float,
    evaluator: EditEvaluator,
    outcomes: EditOutcomes,
) -> None:
    table = Table(
        "procedure", "seconds per edit", "edits per second", "image evaluations per second", "naive to this",
        title=(
            f"{arguments.row}: {arguments.edits} edits of {arguments.layer}, {arguments.images} images, "
            f"width {arguments.width}, {arguments.device}"
        ),
    )  # fmt: skip
    for name, each in {"naive": naive.seconds_per_edit(), "editable": ours}.items():
        rate = arguments.images / each
        table.add_row(name, f"{each:.3f}", f"{1 / each:.3g}", f"{rate:.0f}", f"{naive.seconds_per_edit() / each:.2f}")
    console = Console()
    console.print(processor_line())
    console.print(table)
    console.print(
        f"naive: {statistics.median(naive.edit_seconds):.3f} s for the edit, and "
        f"{1000 * statistics.median(naive.image_seconds):.3f} ms for each image, on {arguments.naive_images} of them"
    )
    console.print(f"unedited network, once: {once:.2f} s; scoring: {evaluator.scoring}")
    if evaluator.scoring.precision == "bfloat16":
        looks = arguments.repeats * int((outcomes.num_steps > 0).sum()) * arguments.images
        console.print(f"scored again in full precision: {100 * evaluator.num_rechecked / looks:.2f} % of the images")
    if evaluator.estimate:
        estimate = evaluator.estimate
        console.print(
            f"drawdown {100 * estimate.drawdown:.3f} ± {100 * estimate.half_width:.3f} points over "
            f"{arguments.edits} edits, {estimate.forward_passes / arguments.edits:.0f} images an edit; over "
            f"{PUBLISHED_EDITS} edits with as many images ± "
            f"{100 * estimate.half_width * (arguments.edits / PUBLISHED_EDITS) ** 0.5:.3f} points"
        )
    fields = list(zip(("success", "number of steps"), zip(*naive.outcomes, strict=True), outcomes, strict=False))
    if not evaluator.estimate and arguments.naive_images == arguments.images:
        fields.append(("errors after", [errors for *_, errors in naive.outcomes], outcomes.errors_after))
    for name, expected, found in fields:
        agree = sum(bool(a == b) for a, b in zip(expected, found.tolist(), strict=False))
        console.print(f"{name}: {agree} of {len(expected)} edits agree")
    console.print(f"errors before: {evaluator.errors_before}, after (naive): {[row[2] for row in naive.outcomes]}")


if __name__ == "__main__":
    main()
