"""How time grows: with the steps of an edit, the edits per batch, the edited layers, and the number of edits.

Each law is measured on a ResNet-18 of half the width with random weights, on one thread. Edits are made by RMSProp,
with a margin out of reach, so that each makes all its updates. The tables show seconds (medians over interleaved
rounds), what the law a + b·x gives for them, with a and b fitted to the least relative deviation, and below them a, b,
and the exponent of a power of x fitted to the same points; the figures show points and law. Seconds are processor time
on a CPU. Runs of more than five seconds are timed once.

    k        one differentiable edit of k steps, and the gradient of its objective
    edits    the edit part of one training step (edits, edited batch, gradients), and the whole step
    layers   one training step and one scored edit, by the FLOPs of the suffix, that is from the edited layer on
    number   scoring E edits on all images, and on a sample of them
"""

import argparse
import statistics
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import torch
from matplotlib.figure import Figure
from measuring import interleaved_seconds, parser, processor_line, save
from naive import clock
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.data import TensorDataset
from torch.utils.flop_counter import FlopCounterMode

from editable.editing import EditEvaluator, Editor, RMSProp, SamplingSettings
from editable.models import SplitNetwork, cifar_resnet18
from editable.tasks import EditableTrainingTask
from editable.visualize.drawing import COLOURS, in_style

UNREACHABLE = 1e4  # margin in nats
NUM_CLASSES = 10


@dataclass
class Law:
    """Seconds by x for one or more curves, and what is expected of them.

    Attributes:
        title: What is measured.
        quantity: What x is, with its unit.
        expected: The law in words.
        seconds: By the curve's name and x.
        names: Of some x, where they have one.
        logarithmic: Whether the figure's axes are.
        remark: Printed below the table.
    """

    title: str
    quantity: str
    expected: str
    seconds: dict[str, dict[float, float]]
    names: dict[float, str] = field(default_factory=dict)
    logarithmic: bool = True
    remark: str = ""


class Fit(NamedTuple):
    """The line a + b·x of the least relative deviation from some points, and the exponent c of a power x^c."""

    intercept: float
    slope: float
    exponent: float

    def __call__(self, x: float) -> float:
        """Return the law's seconds."""
        return self.intercept + self.slope * x


def fit(points: dict[float, float]) -> Fit:
    x, seconds = (torch.tensor(values, dtype=torch.float64) for values in (list(points), list(points.values())))
    scale = x.max()
    relative = torch.stack([1 / seconds, x / scale / seconds], dim=1)
    intercept, slope = torch.linalg.lstsq(relative, torch.ones_like(x).unsqueeze(1)).solution.flatten().tolist()
    log_x, log_seconds = x.log() - x.log().mean(), seconds.log()
    exponent = float(log_x @ log_seconds / (log_x @ log_x))
    return Fit(intercept, slope / float(scale), exponent)


def parse() -> argparse.Namespace:
    options = parser(__doc__, batch_size=32, repeats=1)
    options.set_defaults(width=32, threads=1)  # the laws are those of any width; so all take less than ten minutes
    default = "(default: %(default)s)"
    options.add_argument("--only", nargs="+", choices=list(LAWS), default=list(LAWS), help="which laws; all by default")
    options.add_argument("--layer", default="layer3", help=f"which parameters are edited {default}")
    options.add_argument("--steps", type=int, default=2, help=f"updates of an edit, but in the law of k {default}")
    options.add_argument("--images", type=int, default=16, help=f"scoring images {default}")
    options.add_argument(
        "--half-width", type=float, default=0.02, help=f"of the interval that samples aim at, a fraction {default}"
    )
    points = {"k": [1, 2, 3, 5, 7, 10, 14, 20], "edits": [1, 2, 4, 8, 16, 32], "number": [10, 32, 100, 316, 1000]}
    for name, values in points.items():
        options.add_argument(f"--{name}", nargs="+", type=int, default=values, help=f"points of the law {default}")
    options.add_argument(
        "--layers", nargs="+", default=["fc", "layer4", "layer3", "all"], help=f"points of the law {default}"
    )
    arguments = options.parse_args()
    for name in arguments.only:
        if len(set(getattr(arguments, name))) < 2:
            options.error(f"a law needs at least two points: give --{name} more values")
    if "edits" in arguments.only and max(arguments.edits) > arguments.batch_size:
        options.error(f"{max(arguments.edits)} edits need as many images: raise --batch-size or lower --edits")
    return arguments


class Bench:
    """What all laws are measured on: a network, a batch of images with labels, and how to time.

    The network's statistics are those of the batch, so that random weights tell images apart.
    """

    def __init__(self, arguments: argparse.Namespace, console: Console) -> None:
        self.arguments, self.console, self.device = arguments, console, torch.device(arguments.device)
        torch.manual_seed(arguments.seed)
        self.network = cifar_resnet18(NUM_CLASSES, arguments.width).to(self.device)
        self.images, self.labels = self.draw(arguments.batch_size)
        with torch.no_grad():
            for _ in range(20):
                self.network.train()(self.images)

    def draw(self, num: int) -> tuple[Tensor, Tensor]:
        """Draw random images and labels."""
        size = self.arguments.size
        images, labels = torch.randn(num, 3, size, size), torch.randint(NUM_CLASSES, (num,))
        return images.to(self.device), labels.to(self.device)

    def editor(self, steps: int) -> Editor:
        """Return the editor of so many forced steps."""
        return Editor(RMSProp(1e-5, learn_decay=True), steps, UNREACHABLE).to(self.device)

    def task(self, layer: str, edits: int) -> EditableTrainingTask:
        """Return the task that trains the network."""
        editor = self.editor(self.arguments.steps)
        return EditableTrainingTask(self.network, editor, [layer], edits_per_batch=edits).to(self.device)

    def evaluator(self, layer: str, sampling: SamplingSettings | None = None) -> EditEvaluator:
        """Return an evaluator that has measured the base network, which gets a fifth of the images wrong."""
        images, _ = self.draw(self.arguments.images)
        with torch.no_grad():
            labels = self.network.eval()(images).argmax(dim=1)
        labels[::5] = (labels[::5] + 1) % NUM_CLASSES
        batches = list(zip(images.cpu().split(50), labels.cpu().split(50), strict=True))
        split, editor = SplitNetwork(self.network, layer), self.editor(self.arguments.steps)
        evaluator = EditEvaluator(split, editor, batches, len(images), self.device, sampling=sampling)
        evaluator.measure_base()
        return evaluator

    def score(self, evaluator: EditEvaluator, num: int) -> None:
        """Make and score edits of the batch's images."""
        images, labels = self.images.cpu(), torch.arange(num) % NUM_CLASSES
        evaluator.score(TensorDataset(images), torch.arange(num) % len(images), labels)

    def measure(self, title: str, runs: dict[tuple[str, float], Callable[[], object]]) -> dict[str, dict[float, float]]:
        """Return median seconds by the curve's name and x."""
        seconds = interleaved_seconds(runs, self.arguments.repeats, partial(clock, self.device), self.console, title)
        curves: dict[str, dict[float, float]] = {}
        for (curve, x), values in seconds.items():
            curves.setdefault(curve, {})[x] = statistics.median(values)
        return curves


def differentiable_edit(split: SplitNetwork, editor: Editor, image: Tensor, label: Tensor) -> None:
    params = split.params
    result = editor(split.edit_suffix, params, split.prefix(image), label, differentiable=True)
    torch.autograd.grad(result.loss, list(params.values()))


def edit_part(task: EditableTrainingTask, images: Tensor, logits: Tensor) -> None:
    edits = task.draw_edits(len(images), NUM_CLASSES, 0)
    features = task.split.prefix(images)
    result = task.edit(features, edits)
    loss = task.c_edit * result.loss.mean() + task.c_loc * task.locality(logits, features, result)
    torch.autograd.grad(loss, list(task.parameters()), allow_unused=True)


def whole_step(task: EditableTrainingTask, images: Tensor, labels: Tensor) -> None:
    edits = task.draw_edits(len(images), NUM_CLASSES, 0)
    terms = task.loss_terms(*task.train().unedited_pass(images), (images, labels), edits)
    torch.autograd.grad(terms.loss, list(task.parameters()), allow_unused=True)


def law_of_steps(bench: Bench) -> Law:
    split = SplitNetwork(bench.network, bench.arguments.layer)
    image, label = bench.images[:1], bench.labels[:1]
    runs: dict[tuple[str, float], Callable[[], object]] = {
        ("edit and gradient", k): partial(differentiable_edit, split, bench.editor(k), image, label)
        for k in bench.arguments.k
    }
    return Law(
        "one differentiable edit",
        "k, number of steps",
        "linear in k; the intercept, the prefix and one more look at the objective, is about a step at most",
        bench.measure("k", runs),
        logarithmic=False,
    )


def law_of_edits(bench: Bench) -> Law:
    runs: dict[tuple[str, float], Callable[[], object]] = {}
    with torch.no_grad():
        logits = bench.network.train()(bench.images)
    for edits in bench.arguments.edits:
        task = bench.task(bench.arguments.layer, edits)
        runs["edit part", edits] = partial(edit_part, task, bench.images, logits)
        runs["whole step", edits] = partial(whole_step, task, bench.images, bench.labels)
    return Law(
        f"one training step, batch {bench.arguments.batch_size}, {bench.arguments.steps} steps an edit",
        "edits per batch",
        "linear in the edits; the intercept is what they share: the prefix, and in the whole step a plain step",
        bench.measure("edits", runs),
        logarithmic=False,
    )


def law_of_layers(bench: Bench) -> Law:
    runs: dict[tuple[str, float], Callable[[], object]] = {}
    names: dict[float, str] = {}
    for layer in bench.arguments.layers:
        task = bench.task(layer, 1)
        flops = suffix_flops(task.split, bench.images[:1]) / 1e9
        names[flops] = layer
        runs["training step", flops] = partial(whole_step, task, bench.images, bench.labels)
        runs["scored edit", flops] = partial(bench.score, bench.evaluator(layer), 1)
    return Law(
        f"edited layers, batch {bench.arguments.batch_size}, {bench.arguments.images} scoring images, "
        f"{bench.arguments.steps} steps an edit",
        "FLOPs of the suffix for one image, 10⁹",
        "linear in the FLOPs of the suffix; the intercept of a step is a plain step, that of a scored edit small",
        bench.measure("layers", runs),
        names,
    )


def suffix_flops(split: SplitNetwork, image: Tensor) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        features = split.prefix(image)
        before = counter.get_total_flops()
        split.suffix(features, split.params)
    return counter.get_total_flops() - before


def law_of_number(bench: Bench) -> Law:
    arguments, layer = bench.arguments, bench.arguments.layer
    evaluators = {
        "all images": bench.evaluator(layer),
        "sampled": bench.evaluator(layer, SamplingSettings(half_width=arguments.half_width, seed=arguments.seed)),
    }
    looked_at: dict[float, int] = {}

    def score(curve: str, num: int) -> None:
        bench.score(evaluators[curve], num)
        estimate = evaluators[curve].estimate
        if estimate is not None:
            looked_at[num] = estimate.forward_passes

    runs: dict[tuple[str, float], Callable[[], object]] = {
        (curve, num): partial(score, curve, num) for num in arguments.number for curve in evaluators
    }
    seconds = bench.measure("number", runs)
    counts = ", ".join(f"{count} for {num:.0f}" for num, count in looked_at.items())
    return Law(
        f"drawdown of E edits on {arguments.images} images, {arguments.steps} steps an edit",
        "number of edits",
        "linear in the number of edits; sampled, with an intercept, as few edits need as many images as many do",
        seconds,
        remark=f"images looked at for ± {100 * arguments.half_width:g} points: {counts} edits",
    )


LAWS = {"k": law_of_steps, "edits": law_of_edits, "layers": law_of_layers, "number": law_of_number}


def report(law: Law, fits: dict[str, Fit], console: Console) -> None:
    table = Table(title=law.title, caption=f"expected: {law.expected}", caption_justify="left")
    table.add_column(law.quantity)
    for curve in law.seconds:
        table.add_column(f"{curve}, s", justify="right")
        table.add_column("law, s", justify="right")
        table.add_column("off by", justify="right")
    for x in next(iter(law.seconds.values())):
        cells = [f"{x:.3g}" if x not in law.names else f"{x:.3g} ({law.names[x]})"]
        for curve, seconds in law.seconds.items():
            by_law = fits[curve](x)
            cells += [f"{seconds[x]:.4g}", f"{by_law:.4g}", f"{100 * (seconds[x] / by_law - 1):+.0f} %"]
        table.add_row(*cells)
    console.print(table)
    for curve, (intercept, slope, exponent) in fits.items():
        console.print(
            f"{curve}: a = {intercept:.3g} s, b = {slope:.3g} s, a / b = {intercept / slope:.3g}; as a power, "
            f"x^{exponent:.2f}"
        )
    if law.remark:
        console.print(law.remark)


@in_style
def draw(law: Law, fits: dict[str, Fit]) -> Figure:
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.subplots()
    for index, (curve, seconds) in enumerate(law.seconds.items()):
        low, high = min(seconds), max(seconds)
        if law.logarithmic:
            line = torch.logspace(torch.tensor(low).log10().item(), torch.tensor(high).log10().item(), 100).tolist()
        else:
            line = torch.linspace(0, high, 100).tolist()
        color = COLOURS[index % len(COLOURS)]
        axes.plot(list(seconds), list(seconds.values()), "o", label=curve, color=color)
        law_of = fits[curve]
        label = f"{law_of.intercept:.2g} s + {law_of.slope:.2g} s · x"
        axes.plot(line, [law_of(x) for x in line], label=label, color=color)
    for x, name in law.names.items():
        axes.annotate(name, (x, next(iter(law.seconds.values()))[x]), textcoords="offset points", xytext=(0, 8))
    if law.logarithmic:
        axes.set_xscale("log")
        axes.set_yscale("log")
    axes.set_xlabel(law.quantity)
    axes.set_ylabel("seconds")
    axes.set_title(f"{law.title}\n{textwrap.fill(law.expected, 90)}", fontsize=8)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    console = Console()
    console.print(processor_line())
    for name in arguments.only:
        law = LAWS[name](Bench(arguments, console))
        fits = {curve: fit(points) for curve, points in law.seconds.items()}
        report(law, fits, console)
        save(draw(law, fits), arguments.output / f"growth_{name}.png", console)


if __name__ == "__main__":
    main()
