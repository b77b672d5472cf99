"""One step of editable training: the package against the naive published step, and both against a plain step.

A plain step is forward, cross-entropy and backward of a ResNet-18 on one batch. The naive editable step, float32 and
contiguous, makes one edit of k forced updates (the margin is out of reach) by RMSProp on one chain, on the whole
network by `functional_call`, with its graph kept; then it runs the whole edited network on the batch, and goes backward
from the sum of the three terms. The package's step is `EditableTrainingTask.loss_terms`. Rounds alternate between all
rows, and medians count. Peak memory is measured in a process for each row: of resident memory on a CPU, of allocated
memory on a GPU, in both cases without what weights and data take.

    python benchmarks/training_step.py                # ratios of time
    python benchmarks/training_step.py --memory       # ratios of peak memory
"""

import argparse
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from measuring import processor_line
from naive import naive_training_loss
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional

from editable.data.edits.edit_streams import Edits
from editable.editing import Editor, RMSProp
from editable.models import cifar_resnet18
from editable.tasks import EditableTrainingTask

UNREACHABLE = 1e4  # margin in nats
Step = Callable[[], Tensor]


def task_of(arguments: argparse.Namespace, channels_last: bool, locality_fraction: float) -> EditableTrainingTask:
    """The package's task, with weights from the seed."""
    torch.manual_seed(arguments.seed)
    return EditableTrainingTask(
        cifar_resnet18(width=arguments.width),
        Editor(RMSProp(1e-3, learn_decay=True), arguments.steps, UNREACHABLE),
        [arguments.layer],
        locality_fraction=locality_fraction,
        channels_last=channels_last,
    ).to(arguments.device)


def plain_loss(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(network.train()(images), labels)


def editable_loss(task: EditableTrainingTask, images: Tensor, labels: Tensor, edits: Edits) -> Tensor:
    logits, features = task.train().unedited_pass(images)
    return task.loss_terms(logits, features, (images, labels), edits).loss


def step_of(row: str, arguments: argparse.Namespace) -> Step:
    """Build a row's network and data; return its step."""
    kind, precision, layout, fraction = ROWS[row]
    task = task_of(arguments, layout == "channels last", fraction)
    generator = torch.Generator().manual_seed(arguments.seed)
    shape = (arguments.batch_size, 3, arguments.size, arguments.size)
    images = torch.randn(shape, generator=generator).to(arguments.device)
    labels = torch.randint(10, shape[:1], generator=generator).to(arguments.device)
    edits = Edits(torch.zeros(1, dtype=torch.int64), torch.tensor([3]))
    edits = Edits(*(tensor.to(arguments.device) for tensor in edits))
    losses: dict[str, Step] = {
        "plain": partial(plain_loss, task.network, images, labels),
        "naive": partial(
            naive_training_loss,
            task.network,
            task.split.names,
            images,
            labels,
            edits.labels,
            arguments.steps,
            UNREACHABLE,
        ),
        "ours": partial(editable_loss, task, images, labels, edits),
    }
    parameters = list(task.parameters())

    def step() -> Tensor:
        with torch.autocast(torch.device(arguments.device).type, torch.bfloat16, enabled=precision == "bfloat16"):
            loss = losses[kind]()
        loss.backward()
        for parameter in parameters:
            parameter.grad = None
        if loss.is_cuda:
            torch.cuda.synchronize()
        return loss.detach()

    return step


ROWS = {  # kind, precision, layout, part of the batch that locality is measured on
    "plain, float32": ("plain", "float32", "contiguous", 1.0),
    "plain, float32, channels last": ("plain", "float32", "channels last", 1.0),
    "plain, bfloat16, channels last": ("plain", "bfloat16", "channels last", 1.0),
    "naive editable": ("naive", "float32", "contiguous", 1.0),
    "editable, float32": ("ours", "float32", "contiguous", 1.0),
    "editable, float32, channels last": ("ours", "float32", "channels last", 1.0),
    "editable, bfloat16, channels last": ("ours", "bfloat16", "channels last", 1.0),
    "editable, bfloat16, channels last, locality on 1/4": ("ours", "bfloat16", "channels last", 0.25),
}
PLAIN_OF = {  # the plain step of the same precision and layout
    row: next(other for other, setting in ROWS.items() if setting[0] == "plain" and setting[1:3] == ROWS[row][1:3])
    for row in ROWS
}


def peak_memory(row: str, arguments: argparse.Namespace) -> int:
    """Bytes that a step takes at most on top of weights and data; to be called in a fresh process."""
    torch.set_num_threads(arguments.threads)
    step = step_of(row, arguments)
    if torch.device(arguments.device).type == "cuda":
        before = torch.cuda.memory_allocated()
        step()
        torch.cuda.reset_peak_memory_stats()
        step()
        return torch.cuda.max_memory_allocated() - before
    tiny = torch.ones(2, requires_grad=True)
    tiny.sum().backward()  # starts autograd's threads
    with open("/proc/self/statm") as file:
        before = int(file.read().split()[1]) * resource.getpagesize()
    step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memory", action="store_true", help="measure peak memory in place of time")
    parser.add_argument(
        "--processor-seconds", action="store_true", help="count processor seconds, which other programs do not lengthen"
    )
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS), help="which rows, by name")
    parser.add_argument("--layer", default="layer3", help="which parameters are edited (default: layer3)")
    parser.add_argument("--steps", type=int, default=10, help="k, the number of updates (default: 10)")
    parser.add_argument("--batch-size", type=int, default=128, help="images in a batch (default: 128)")
    parser.add_argument("--width", type=int, default=64, help="channels of the first chain (default: 64)")
    parser.add_argument("--size", type=int, default=32, help="height and width of the images (default: 32)")
    parser.add_argument("--repeats", type=int, default=5, help="rounds, of which the median counts (default: 5)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--threads", type=int, default=2, help="threads on a CPU (default: 2)")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and images (default: 0)")
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    measured = measure_memory(arguments) if arguments.memory else measure_seconds(arguments)
    unit = "peak memory, MiB" if arguments.memory else "seconds"
    table = Table(
        "step", unit, "to the plain step alike", "naive to this",
        title=f"batch {arguments.batch_size}, k = {arguments.steps}, {arguments.layer}, width {arguments.width}, "
        f"{arguments.device}",
    )  # fmt: skip
    for row, value in measured.items():
        plain, naive = measured.get(PLAIN_OF[row]), measured.get("naive editable")
        table.add_row(
            row,
            f"{value / 2**20:.0f}" if arguments.memory else f"{value:.3f}",
            f"{value / plain:.2f}" if plain else "",
            f"{naive / value:.2f}" if naive else "",
        )
    console = Console()
    console.print(processor_line())
    console.print(table)


def measure_seconds(arguments: argparse.Namespace) -> dict[str, float]:
    clock = time.process_time if arguments.processor_seconds else time.perf_counter
    steps = {row: step_of(row, arguments) for row in arguments.rows}
    seconds: dict[str, list[float]] = {row: [] for row in steps}
    for repeat in track(range(arguments.repeats + 1), "rounds"):
        for row, step in steps.items():
            start = clock()
            step()
            if repeat:  # the first round warms up
                seconds[row].append(clock() - start)
    return {row: statistics.median(values) for row, values in seconds.items()}


def measure_memory(arguments: argparse.Namespace) -> dict[str, float]:
    measured = {}
    for row in track(arguments.rows, "rows"):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            measured[row] = float(pool.apply(peak_memory, (row, arguments)))
    return measured


if __name__ == "__main__":
    main()
