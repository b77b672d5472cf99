"""Edits without gradients on features of a last layer: one, a stream, and natural mistakes at once; against naive ways.

    python benchmarks/closed_form_edits.py                                # random features, 512 of them, 10 classes
    python benchmarks/closed_form_edits.py --views 8 --edits 200          # each image with views, edited with it
    python benchmarks/closed_form_edits.py --features test.pt --references train.pt     # of a network of yours

A file of features, from ``torch.save``, holds ``h`` [N, d] and ``y`` [N], those that are edited also ``W`` [C, d] and
``b`` [C] of the layer that reads them. Random features are nonnegative, one cluster for each class.

The network is that linear layer alone, so that what is timed comes after the features. ``one`` is the median of single
edits of the unedited network, ``mistakes`` are samples that it gets wrong, together, and ``stream`` is one edit after
the other, to random labels. The naive procedure makes each edit of a stream from scratch, as one edit of all samples so
far; it is timed after some of the edits and summed up by trapezia. NeuronEditor's edit of all samples is another one,
of one neuron for each label, so its naive procedure is left out. Both run in this process, one after the other.
"""

import argparse
import statistics
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch
from measuring import processor_line, wall_clock
from naive import clock as processor_clock
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

from editable.editing import (
    BaseEditor,
    CodebookEditor,
    EditSite,
    MinimalHarmEditor,
    NeuronEditor,
    NullSpaceEditor,
    RidgeEditor,
)
from editable.editing.editors.objective import is_predicted
from editable.models import SplitNetwork

EDITORS: Mapping[str, type[BaseEditor]] = {
    editor.__name__.removesuffix("Editor").lower(): editor
    for editor in (MinimalHarmEditor, RidgeEditor, NullSpaceEditor, CodebookEditor, NeuronEditor)
}
SINGLE_EDITS = 20
NAIVE_POINTS = 4  # after how many edits of a stream the naive procedure is timed, besides the first


class Problem(NamedTuple):
    """A linear layer, features [N, d] with labels [N], and those of references, [n, d]."""

    layer: nn.Linear
    features: Tensor
    labels: Tensor
    references: Tensor


class Bound(NamedTuple):
    """An editor at its place."""

    editor: BaseEditor
    split: SplitNetwork

    @property
    def params(self) -> dict[str, Tensor]:
        """The unedited parameters that it changes."""
        return {name: param.detach() for name, param in self.split.params.items()}

    def together(self, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Edit the unedited network, once, by all samples."""
        return self.editor(self.split.suffix, self.params, self.split.prefix(features), labels).params


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = "(default: %(default)s)"
    parser.add_argument("--editors", nargs="+", choices=list(EDITORS), default=list(EDITORS), help="all by default")
    parser.add_argument("--edits", type=int, default=1000, help=f"length of the stream {default}")
    parser.add_argument("--views", type=int, default=0, help=f"of each edited image, edited with it {default}")
    parser.add_argument("--noise", type=float, default=0.2, help=f"of a view, in standard deviations {default}")
    parser.add_argument("--mistakes", type=int, default=50, help=f"edited at once {default}")
    parser.add_argument("--features", type=Path, help="file of features that are edited, and of the layer")
    parser.add_argument("--references", type=Path, help="file of features of reference images")
    parser.add_argument("--images", type=int, default=10_000, help=f"how many random features of each kind {default}")
    parser.add_argument("--width", type=int, default=512, help=f"number of random features {default}")
    parser.add_argument("--classes", type=int, default=10, help=f"of random features {default}")
    parser.add_argument("--repeats", type=int, default=3, help=f"times the mistakes are edited {default}")
    parser.add_argument("--no-naive", action="store_true", help="leave out the naive procedure, which takes long")
    parser.add_argument("--threads", type=int, default=2, help=f"threads on a CPU {default}")
    parser.add_argument("--device", default="cpu", help=f"cpu or cuda {default}")
    parser.add_argument("--processor-seconds", action="store_true", help="count these, of all threads together")
    parser.add_argument("--seed", type=int, default=0, help=f"seed of features and labels {default}")
    return parser.parse_args()


def load(options: argparse.Namespace) -> Problem:
    device = torch.device(options.device)
    if (options.features is None) != (options.references is None):
        raise SystemExit("--features and --references belong together: give both, or none")
    if options.features is None:
        return random_problem(options)
    edited, references = (torch.load(path, map_location=device) for path in (options.features, options.references))
    layer = nn.Linear(edited["W"].shape[1], len(edited["W"]), device=device)
    layer.load_state_dict({"weight": edited["W"], "bias": edited["b"]})
    return Problem(layer, edited["h"], edited["y"], references["h"])


def random_problem(options: argparse.Namespace) -> Problem:
    """Return clusters of nonnegative features, and the layer that tells which centre is nearest."""
    device = torch.device(options.device)
    centres = 0.15 * torch.randn(options.classes, options.width, device=device)
    labels = torch.randint(options.classes, (2 * options.images,), device=device)
    features = (centres[labels] + torch.randn(2 * options.images, options.width, device=device)).relu()
    layer = nn.Linear(options.width, options.classes, device=device)
    with torch.no_grad():
        means = torch.stack([features[labels == label].mean(dim=0) for label in range(options.classes)])
        layer.weight.copy_(means)
        layer.bias.copy_(-means.square().sum(dim=1) / 2)
    return Problem(layer, features[: options.images], labels[: options.images], features[options.images :])


def bind(editor: BaseEditor, problem: Problem) -> Bound:
    layer = nn.Linear(problem.layer.in_features, problem.layer.out_features, device=problem.features.device)
    layer.load_state_dict(problem.layer.state_dict())
    network = editor.furnish(nn.Sequential(OrderedDict(fc=layer)).eval())

    def references(number: int) -> Iterator[tuple[Tensor, Tensor]]:
        some = problem.references[:number]
        yield from ((part, torch.zeros(len(part), dtype=torch.int64)) for part in some.split(1000))

    split = SplitNetwork(network, list(editor.own_layers or ("fc",)))
    bound = editor.at(EditSite(split, references, problem.features.device))
    return Bound(bound, split)


def samples_of(problem: Problem, options: argparse.Namespace) -> tuple[Tensor, Tensor]:
    """Return what a stream edits, [E, 1 + views, d] and random labels [E, 1 + views]."""
    number = min(options.edits, len(problem.features))
    images = problem.features[torch.randperm(len(problem.features))[:number], None]
    noise = options.noise * problem.features.std(dim=0) * torch.randn(number, options.views, images.shape[2])
    views = (images + noise.to(images)).relu() if options.views else images[:, :0]
    labels = torch.randint(problem.layer.out_features, (number, 1), device=images.device)
    return torch.cat([images, views], dim=1), labels.expand(-1, 1 + options.views)


def stream(
    bound: Bound, features: Tensor, labels: Tensor, clock: Callable[[], float], title: str, console: Console
) -> tuple[list[float], Tensor]:
    """Return seconds of each edit, and which samples have their labels in the end, [E, 1 + views]."""
    params, state = bound.params, dict[str, Tensor]()
    seconds = []
    for own, asked in track(list(zip(features, labels, strict=True)), title, console=console):
        start = clock()
        result, state = bound.editor.extend(bound.split.suffix, params, bound.split.prefix(own), asked, state)
        seconds.append(clock() - start)
        params = result.params
    with torch.no_grad():
        logits = bound.split.suffix(bound.split.prefix(features.flatten(0, 1)), params)
    return seconds, is_predicted(logits, labels.flatten()).view_as(labels)


def naive_stream(bound: Bound, features: Tensor, labels: Tensor, clock: Callable[[], float]) -> float:
    """Return seconds of a stream whose every edit is one of all samples so far, from those of some."""
    number = len(features)
    points = sorted({1, *(max(1, number * part // NAIVE_POINTS) for part in range(1, NAIVE_POINTS + 1))})
    found = []
    for point in points:
        start = clock()
        bound.together(features[:point].flatten(0, 1), labels[:point].flatten())
        found.append(clock() - start)
    known = list(zip(points, found, strict=True))
    return found[0] + sum((right - left) * (a + b) / 2 for (left, a), (right, b) in pairwise(known))


def median_seconds(bound: Bound, edits: list[tuple[Tensor, Tensor]], clock: Callable[[], float]) -> float:
    """Return the median over edits, of which the first one warms up."""
    seconds = []
    for features, labels in [edits[0], *edits]:
        start = clock()
        bound.together(features, labels)
        seconds.append(clock() - start)
    return statistics.median(seconds[1:])


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    warnings.simplefilter("ignore")  # of samples that are out of reach; the table has how many
    console, problem = Console(), load(options)
    device = torch.device(options.device)
    clock = partial(processor_clock if options.processor_seconds else wall_clock, device)
    features, labels = samples_of(problem, options)
    with torch.no_grad():
        wrong = (
            (problem.layer(problem.features).argmax(dim=1) != problem.labels).nonzero().flatten()[: options.mistakes]
        )
    mistakes = problem.features[wrong], problem.labels[wrong]
    table = Table(
        "editor", "one, ms", f"{len(wrong)} mistakes, s", f"stream of {len(labels)}, s", "last edit, ms", "held",
        "naive, s", "naive to this",
        title=f"{1 + options.views} samples an edit, {features.shape[2]} features, {problem.layer.out_features} "
        f"classes, {len(problem.references)} references, {options.device}, {options.threads} threads",
    )  # fmt: skip
    for name in options.editors:
        bound = bind(EDITORS[name](), problem)
        one = median_seconds(bound, list(zip(features[:SINGLE_EDITS], labels[:SINGLE_EDITS], strict=True)), clock)
        many = median_seconds(bound, [mistakes] * max(1, options.repeats), clock) if len(wrong) else 0.0
        seconds, held = stream(bound, features, labels, clock, name, console)
        naive = None if options.no_naive or name == "neuron" else naive_stream(bound, features, labels, clock)
        ratio = ("—", "—") if naive is None else (f"{naive:.3g}", f"{naive / sum(seconds):.3g}")
        last = statistics.median(seconds[-10:])
        table.add_row(
            name, f"{1000 * one:.3g}", f"{many:.3g}", f"{sum(seconds):.3g}", f"{1000 * last:.3g}",
            f"{100 * held.double().mean():.1f} %", *ratio,
        )  # fmt: skip
    console.print(processor_line())
    console.print(table)
    console.print("seconds are " + ("processor seconds" if options.processor_seconds else "wall-clock"))


if __name__ == "__main__":
    main()
