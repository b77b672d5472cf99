"""The works that device.py counts or times, each with the most waits and kernels that it may take."""

import argparse
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import torch
from device_choices import show_choices
from device_forms import show_forms
from measuring import interleaved_seconds, processor_line, wall_clock
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from editable.data import Edits
from editable.editing import EditEvaluator, Editor, RMSProp
from editable.models import SplitNetwork, cifar_resnet18
from editable.models.machine.devices import LOOK_EVERY, to_device
from editable.rewriting import (
    ClassFilterTraining,
    InverseMoment,
    LayerBlock,
    ProjectedDescent,
    ReconstructionSettings,
    RewriteProblem,
    collect_second_moment,
    exemplars_from_images,
    make_filter_examples,
    make_memory,
    reconstruct,
)
from editable.tasks import EditableTrainingTask

BATCH = 128


class Work(NamedTuple):
    """Something that is done on a device.

    Attributes:
        run: Does it once.
        waits: How often it may make the host wait: reads of results, and copies from memory that is not pinned.
        kernels: How many kernels it may start on the fake device, at the sizes of ``--device fake``.
    """

    run: Callable[[], object]
    waits: int
    kernels: int


def works(options: argparse.Namespace, device: torch.device) -> dict[str, Work]:
    """Make everything that is measured."""
    torch.manual_seed(options.seed)
    network = cifar_resnet18(width=options.width).to(device).eval()
    images = torch.randn(options.images, 3, options.size, options.size)
    labels = torch.randint(10, (options.images,))
    split, steps, edits = SplitNetwork(network, ["layer3"]), options.steps, options.edits
    looks = -(-(options.updates + 1) // LOOK_EVERY)  # at the losses of a loop
    common = (images, labels, options, device)
    rewriting = (network, images, options, device)
    return {
        f"{edits} edits together, {steps} steps": Work(partial(edit, split, *common), steps, 6_150),
        "step of editable training": Work(training_step(network, *common), 0, 15_500),
        f"{edits} edits, scored on {len(images)} images": Work(
            partial(evaluate, split, *common), steps + 7 + -(-len(images) // BATCH), 7_400
        ),
        f"descent, {options.updates} updates": Work(descent(*rewriting), looks + 18, 1_700),
        f"class filter, {options.updates} updates": Work(class_filter(*rewriting), 4, 1_700),
        f"inversion, {options.updates} updates": Work(inversion(*rewriting), looks + 6, 3_500),
    }


def unreachable(steps: int) -> Editor:
    """An editor that takes all its steps: no label is ahead by so much."""
    return Editor(RMSProp(learning_rate=1e-4), steps, margin=1e4)


def edit(
    split: SplitNetwork, images: Tensor, labels: Tensor, options: argparse.Namespace, device: torch.device
) -> None:
    editor = unreachable(options.steps)
    with torch.no_grad():
        features = split.prefix(to_device(images[: options.edits], device))
    inputs = tuple(feature.unsqueeze(1) for feature in features)
    editor.edit_many(split.edit_suffix, split.params, inputs, labels[: options.edits, None])


def training_step(
    network: nn.Module, images: Tensor, labels: Tensor, options: argparse.Namespace, device: torch.device
) -> Callable[[], None]:
    editor = unreachable(options.steps)
    task = EditableTrainingTask(network=network, editor=editor, editable_layers=["layer3"]).to(device)
    batch = images[:BATCH].to(device), labels[:BATCH].to(device)
    chosen = Edits(torch.tensor([0]), torch.tensor([3]))

    def step() -> None:
        logits, features = task.unedited_pass(batch[0])
        task.loss_terms(logits, features, batch, chosen).loss.backward()
        for parameter in task.parameters():
            parameter.grad = None

    return step


def evaluate(
    split: SplitNetwork, images: Tensor, labels: Tensor, options: argparse.Namespace, device: torch.device
) -> None:
    dataset = TensorDataset(images, labels)
    loader = DataLoader(dataset, BATCH, pin_memory=device.type == "cuda")
    editor = unreachable(options.steps)
    evaluator = EditEvaluator(split, editor, loader, len(images), device, edits_at_once=options.edits)
    evaluator.measure_base()
    evaluator.score(dataset, torch.arange(options.edits), (labels[: options.edits] + 1) % 10)
    evaluator.close()


def descent(
    network: nn.Module, images: Tensor, options: argparse.Namespace, device: torch.device
) -> Callable[[], object]:
    block = LayerBlock(network, "layer3.0.conv1")
    memory = make_memory(tuple(block.weight.shape), block.geometry)
    some = images[:BATCH].to(device)
    inverse = InverseMoment(collect_second_moment(block, memory, some.split(20)))
    masks = torch.zeros(4, options.size, options.size, device=device)
    masks[:, options.size // 2 :] = 1
    changed = torch.where(masks[:, None] > 0, 0.1 * some[4:8], some[:4])
    problem = RewriteProblem(block, memory, exemplars_from_images(block, some[:4], changed, masks), inverse)
    return partial(ProjectedDescent(1e-4, options.updates, patience=None), problem)


def class_filter(
    network: nn.Module, images: Tensor, options: argparse.Namespace, device: torch.device
) -> Callable[[], object]:
    block = LayerBlock(network, "layer3.0.conv1")
    some = images[:12].to(device)
    masks = torch.zeros(2, options.size, options.size, device=device)
    masks[:, : options.size // 2] = 1
    examples = make_filter_examples(block, some[:2], masks, some[2:])
    return partial(ClassFilterTraining(num_steps=options.updates), block, examples)


def inversion(
    network: nn.Module, images: Tensor, options: argparse.Namespace, device: torch.device
) -> Callable[[], object]:
    prefix = SplitNetwork(network, ["layer3"]).prefix
    wanted = prefix(images[:4].to(device))[0].detach()
    starts = torch.randn(2, 4, *images.shape[1:]).to(device)
    settings = ReconstructionSettings(num_steps=options.updates)
    return partial(reconstruct, lambda some: prefix(some)[0], wanted, starts, settings)


# ------------------------------------------------------------------------------------------------------------- counts


def show_counts(options: argparse.Namespace) -> bool:
    """Print how often each work waits and how many kernels it starts; return whether all are within their bounds."""
    from tests.fake_cuda.counting import counting

    console = Console()
    table = Table("work", "waits", "at most", "kernels", "at most")
    found = {}
    for name, work in works(options, torch.device("cuda")).items():
        work.run()  # what is done once, such as looking at the network, is done
        with counting(depth=3) as count:
            work.run()
        found[name] = (work, count)
        waits = count.waits.total() + count.pageable.total()
        table.add_row(name, f"{waits}", f"{work.waits}", f"{count.kernels}", f"{work.kernels}")
    console.print(table)
    kept = True
    for name, (work, count) in found.items():
        if count.waits.total() + count.pageable.total() > work.waits or count.kernels > work.kernels:
            kept = False
            console.print(f"{name}: more than its bounds", *count.lines(), sep="\n", soft_wrap=True, markup=False)
    return kept


# -------------------------------------------------------------------------------------------------------------- times


@contextmanager
def as_it_is() -> Iterator[None]:
    yield


@contextmanager
def with_tf32() -> Iterator[None]:
    """Allow TF32 in what is not promised to be exact: training, and what rewriting reads."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def with_trials() -> Iterator[None]:
    before, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


SETTINGS = {
    "as it is": as_it_is,
    "TF32 allowed": with_tf32,
    "cuDNN's trials": with_trials,
    "deterministic": deterministic,
}


def show_times(options: argparse.Namespace) -> None:
    """Print the seconds of each work, and those with a setting to those without it."""
    device, console = torch.device(options.device), Console()
    console.print(processor_line())
    where = f"{torch.cuda.get_device_name()}, " if device.type == "cuda" else ""
    console.print(f"{where}torch {torch.__version__}, ResNet-18 of width {options.width}, {options.size} pixels")

    def run(work: Work, setting: str) -> None:
        with SETTINGS[setting]():
            work.run()

    found = works(options, device)
    runs = {(name, setting): partial(run, work, setting) for name, work in found.items() for setting in SETTINGS}
    seconds = interleaved_seconds(runs, options.repeats, partial(wall_clock, device), console, "works")
    medians = {key: statistics.median(times) for key, times in seconds.items()}
    table = Table("work", "seconds", *(f"{setting}: ratio" for setting in list(SETTINGS)[1:]))
    for name in found:
        plain = medians[name, "as it is"]
        ratios = (f"{medians[name, setting] / plain:.2f}" for setting in list(SETTINGS)[1:])
        table.add_row(name, f"{plain:.4f}", *ratios)
    console.print(table)
    show_choices(options, device, console)
    show_forms(options, device, console)
