"""bfloat16 against float32 on this processor: what `precision: auto` decides by, a row of the table in the package.

Each pair is timed in alternating rounds, in processor seconds, which other programs hardly lengthen; medians count.
Another kind of processor can be tried on one that has AVX-512 BF16:

    python benchmarks/precision.py
    ONEDNN_MAX_CPU_ISA=AVX512_CORE python benchmarks/precision.py                              # AVX-512 without it
    ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 python benchmarks/precision.py            # AVX2
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from measuring import interleaved_seconds, parser, processor_line
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional

from editable.data.edits.edit_streams import Edits
from editable.editing import Editor, RMSProp
from editable.models import ScoringSettings, SplitNetwork, cifar_resnet18, cifar_vit
from editable.models.machine.precision import PROCESSORS, processor
from editable.models.split.scoring_form import ScoringForm
from editable.tasks import EditableTrainingTask

UNREACHABLE = 1e4  # margin in nats
Run = Callable[[], object]


def training_step(loss: Callable[[], Tensor], parameters: list[nn.Parameter], low_precision: bool) -> None:
    with torch.autocast("cpu", torch.bfloat16, enabled=low_precision):
        value = loss()
    value.backward()
    for parameter in parameters:
        parameter.grad = None


def editable_loss(task: EditableTrainingTask, images: Tensor, labels: Tensor, edits: Edits) -> Tensor:
    logits, features = task.unedited_pass(images)
    return task.loss_terms(logits, features, (images, labels), edits).loss


def plain_loss(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(network(images), labels)


def score(form: ScoringForm, features: tuple[Tensor, ...], params: dict[str, Tensor]) -> None:
    form(features, form.prepare(params))


def pairs(arguments: argparse.Namespace) -> dict[tuple[str, str], Run]:
    """All runs, by what is done and in which precision."""
    torch.manual_seed(arguments.seed)
    images = torch.randn(arguments.batch_size, 3, arguments.size, arguments.size)
    labels = torch.randint(10, (len(images),))
    network = cifar_resnet18(width=arguments.width)
    editor = Editor(RMSProp(1e-3), arguments.steps, UNREACHABLE)
    task = EditableTrainingTask(network, editor, ["layer3"], channels_last=True).train()
    edits = Edits(torch.zeros(1, dtype=torch.int64), torch.tensor([3]))
    transformer = cifar_vit(image_size=arguments.size).train()
    parameters = list(task.parameters()), list(transformer.parameters())
    losses = {
        "training": (partial(editable_loss, task, images, labels, edits), parameters[0]),
        "training, vision transformer": (partial(plain_loss, transformer, images, labels), parameters[1]),
    }
    runs: dict[tuple[str, str], Run] = {
        (name, precision): partial(training_step, loss, parameters, precision == "bfloat16")
        for name, (loss, parameters) in losses.items()
        for precision in ("float32", "bfloat16")
    }
    split = SplitNetwork(cifar_resnet18(width=arguments.width).eval(), ["layer3"])
    with torch.no_grad():
        features = split.prefix(images)
    params = {name: param.detach() for name, param in split.params.items()}
    for name, settings in (("float32", ScoringSettings()), ("bfloat16", ScoringSettings(precision="bfloat16"))):
        form = ScoringForm(split, features, settings)
        there = tuple(feature.to(torch.bfloat16 if name == "bfloat16" else torch.float32) for feature in features)
        runs["scoring", name] = partial(score, form, there, params)
    return runs


def main() -> None:
    made = parser(__doc__, batch_size=64, repeats=3)
    made.set_defaults(threads=1)
    made.add_argument("--steps", type=int, default=3, help="updates of the edit in training (default: %(default)s)")
    arguments = made.parse_args()
    torch.set_num_threads(arguments.threads)
    console = Console()
    runs = pairs(arguments)
    found = interleaved_seconds(runs, arguments.repeats, time.process_time, console, "rounds")
    seconds = {key: statistics.median(values) for key, values in found.items()}
    speed = PROCESSORS.get(processor())
    table = Table("work", "float32, s", "bfloat16, s", "bfloat16 to float32", "in the package's table")
    for work in dict.fromkeys(work for work, _ in seconds):
        full, half = seconds[work, "float32"], seconds[work, "bfloat16"]
        known = getattr(speed, work, None)
        table.add_row(work, f"{full:.3f}", f"{half:.3f}", f"{half / full:.2f}", "" if known is None else f"{known:.2f}")
    console.print(processor_line())
    console.print(table)


if __name__ == "__main__":
    main()
