"""Exact scores of many edits of the last layer as one product, against a whole network for each of them.

    python benchmarks/low_rank_scoring.py              # 1000 rank-one edits × 10,000 images × 512 features, 10 classes
    python benchmarks/low_rank_scoring.py --rank 10    # whatever the edits are: no more than the number of classes

Both count errors, agreeing and sensitive agreeing images. The features are at hand, as an evaluation keeps them after
it has measured the unedited network; here they are random and nonnegative, as behind a ReLU. Each edit is the change of
least norm that gives one image another label, or a sum of as many as its rank, each weaker. The naive procedure copies
the ResNet-18, changes the copy and runs the whole of it; it is timed on a few edits and images and scaled up to all.
What is counted is compared with a plain loop over a few edits, on the features. Rounds alternate, medians count.
"""

import argparse
import copy
import statistics
from collections.abc import Callable
from functools import partial

import torch
from measuring import processor_line, wall_clock
from naive import clock as processor_clock
from naive import naive_errors
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

from editable.editing.evaluation.feature_store import FeatureStore
from editable.editing.evaluation.scoring import BaseScores, Scorer, leads, margins
from editable.models import ScoringSettings, SplitNetwork, cifar_resnet18

BATCH = 128
SENSITIVE_MARGIN = 0.05


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = "(default: %(default)s)"
    parser.add_argument("--edits", type=int, default=1000, help=f"number of edits {default}")
    parser.add_argument("--images", type=int, default=10_000, help=f"number of images {default}")
    parser.add_argument("--rank", type=int, default=1, help=f"of each edit {default}")
    parser.add_argument("--width", type=int, default=64, help=f"channels of the first chain, 1/8 of features {default}")
    parser.add_argument("--classes", type=int, default=10, help=f"number of logits {default}")
    parser.add_argument("--size", type=int, default=32, help=f"height and width of the images {default}")
    parser.add_argument("--naive-edits", type=int, default=2, help=f"how many edits naively {default}")
    parser.add_argument("--naive-images", type=int, default=256, help=f"on how many images naively {default}")
    parser.add_argument("--checked-edits", type=int, default=20, help=f"whose counts are compared {default}")
    parser.add_argument("--repeats", type=int, default=3, help=f"rounds after the one that warms up {default}")
    parser.add_argument("--threads", type=int, default=2, help=f"threads on a CPU {default}")
    parser.add_argument("--device", default="cpu", help=f"cpu or cuda {default}")
    parser.add_argument("--processor-seconds", action="store_true", help="count these, of all threads together")
    parser.add_argument("--seed", type=int, default=0, help=f"seed of weights, images and edits {default}")
    return parser.parse_args()


def make_edits(
    features: Tensor, logits: Tensor, options: argparse.Namespace, layer: nn.Linear
) -> list[dict[str, Tensor]]:
    """Return edited parameters: e_y − e_j times an image's key, just as much as gives it the label y."""
    keys = torch.cat([features, torch.ones_like(features[:, :1])], dim=1)
    generator, edits = torch.Generator().manual_seed(options.seed), []
    for _ in range(options.edits):
        change = torch.zeros(options.classes, keys.shape[1], device=keys.device)
        for strength in 1.1 / torch.arange(1, options.rank + 1):
            image = int(torch.randint(len(keys), (1,), generator=generator))
            label = int(torch.randint(options.classes, (1,), generator=generator))
            first, behind = int(logits[image].argmax()), float(logits[image].max() - logits[image, label])
            step = strength * behind / 2 * keys[image] / keys[image].square().sum()
            change[label] += step
            change[first] -= step
        weight, bias = layer.weight.detach() + change[:, :-1], layer.bias.detach() + change[:, -1]
        edits.append({"fc.weight": weight, "fc.bias": bias})
    return edits


def naive_seconds(
    network: nn.Module, params: dict[str, Tensor], images: Tensor, number: int, clock: Callable[[], float]
) -> float:
    """Return seconds for one edited network and a number of images, scaled up from some of them."""
    start = clock()
    edited = copy.deepcopy(network)
    edited.load_state_dict(params, strict=False)
    middle = clock()
    naive_errors(edited, ((some, torch.zeros(len(some), device=some.device)) for some in images.split(BATCH)))
    return middle - start + (clock() - middle) * number / len(images)


@torch.no_grad()
def plain_counts(
    layer: nn.Linear, store: FeatureStore, base: BaseScores, sensitive: Tensor, params: dict[str, Tensor]
) -> list[int]:
    """Count as one would write it down, batch by batch."""
    own = copy.deepcopy(layer)
    own.load_state_dict({name.removeprefix("fc."): value for name, value in params.items()})
    predictions = torch.cat([own(features).argmax(dim=1).cpu() for (features,), _ in store.batches(BATCH)])
    agrees = predictions == base.predictions
    return [int(some.sum()) for some in (predictions != base.labels, agrees, agrees & sensitive)]


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    device, console = torch.device(options.device), Console()
    clock = partial(processor_clock if options.processor_seconds else wall_clock, device)
    network = cifar_resnet18(num_classes=options.classes, width=options.width).to(device).eval()
    layer, split = network.get_submodule("fc"), SplitNetwork(network, "fc")
    assert isinstance(layer, nn.Linear)
    features = torch.randn(options.images, layer.in_features, device=device).relu()
    with torch.no_grad():
        logits = layer(features)
    predictions = logits.argmax(dim=1).cpu()
    labels = torch.where(torch.arange(options.images) % 5 == 0, (predictions + 1) % options.classes, predictions)
    store = FeatureStore(options.images, 2**34, device)
    store.add((features,), labels)
    base = BaseScores(labels, predictions, margins(logits, labels.to(device)).cpu(), leads(logits).cpu())
    scorer = Scorer(split, store, ScoringSettings.for_device(device), base, SENSITIVE_MARGIN)
    edits = make_edits(features, logits, options, layer)
    images = torch.randn(options.naive_images, 3, options.size, options.size, device=device)
    ours, naive = [], []
    for number in track(range(options.repeats + 1), "rounds", console=console):
        start = clock()
        scores = scorer.score(edits, lambda done: None)
        seconds = clock() - start
        slow = [
            naive_seconds(network, params, images, options.images, clock) for params in edits[: options.naive_edits]
        ]
        if number or not options.repeats:
            ours.append(seconds)
            naive.append(statistics.mean(slow))
    found = zip(*(field.tolist() for field in scores), strict=True)
    checked = list(zip(edits[: options.checked_edits], found, strict=False))
    equal = sum(plain_counts(layer, store, base, scorer.sensitive, params) == list(own) for params, own in checked)
    all_naive, all_ours = options.edits * statistics.median(naive), statistics.median(ours)
    table = Table(
        "procedure", "seconds for all edits", "milliseconds per edit", "naive to this",
        title=f"{options.edits} edits of rank {options.rank}, {options.images} images, {layer.in_features} features, "
        f"{options.classes} classes, {device}, {options.threads} threads",
    )  # fmt: skip
    for name, each in {"naive (scaled up)": all_naive, "one product": all_ours}.items():
        table.add_row(name, f"{each:.4g}", f"{1000 * each / options.edits:.4g}", f"{all_naive / each:.0f}")
    console.print(processor_line())
    console.print(table)
    again = scorer.num_rechecked / (options.repeats + 1) / options.edits / options.images
    console.print(f"least and most seconds of the product: {min(ours):.2f}, {max(ours):.2f}")
    console.print(f"the naive procedure ran {options.naive_edits} edits on {options.naive_images} images a round")
    console.print(f"looked at again, as rounding could decide: {100 * again:.3f} % of the images")
    console.print(f"counts: {equal} of {len(checked)} edits agree with a plain loop")


if __name__ == "__main__":
    main()
