"""A differentiable unrolled edit: our editor on the split network against `higher` on the whole network.

Each contestant makes the same edit of layer3 of a ResNet-18 (k forced steps: the margin is out of reach) and
differentiates the edit objective at its end with respect to all of the network's parameters, as one step of editable
training does.
`higher (whole)` is what its users write: the whole network patched, and so every parameter differentiated at every
step. `higher (suffix)` is our HigherEditor, which hands it the edited parameters alone. `higher` has no RMSProp with
ε inside the root; torch.optim.RMSprop, the nearest it has, does the same work. Seconds are processor time on a CPU.
"""

import argparse
import gc
import statistics
import warnings
from collections.abc import Callable
from functools import partial

import higher
import torch
from measuring import processor_line
from naive import clock, naive_objective
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from editable.editing import GD, BaseEditor, Editor, HigherEditor, RMSProp
from editable.models import SplitNetwork, cifar_resnet18

UNREACHABLE = 1e6  # margin in nats
RULES = {
    "GD": (partial(GD, 1e-4), partial(torch.optim.SGD, lr=1e-4)),
    "RMSProp": (partial(RMSProp, 1e-5), partial(torch.optim.RMSprop, lr=1e-5, alpha=0.5)),
}


def by_editor(editor: BaseEditor, split: SplitNetwork, image: Tensor, label: Tensor) -> list[Tensor]:
    """Edit with one of the package's editors; return the loss's gradients."""
    result = editor(split.unrolled_suffix(), split.params, split.prefix(image), label, differentiable=True)
    return list(torch.autograd.grad(result.loss, list(split.network.parameters())))


def by_higher(
    optimizer: Callable[..., torch.optim.Optimizer],
    network: nn.Module,
    names: tuple[str, ...],
    image: Tensor,
    label: Tensor,
    max_steps: int,
) -> list[Tensor]:
    """Edit with `higher` as its own documentation shows; return the loss's gradients."""
    network.eval()
    params = [network.get_parameter(name) for name in names]
    with higher.innerloop_ctx(network, optimizer(params), copy_initial_weights=False) as (patched, inner):
        for _ in range(max_steps):
            inner.step(naive_objective(patched(image), label, UNREACHABLE))
        loss = naive_objective(patched(image), label, UNREACHABLE)
        return list(torch.autograd.grad(loss, list(network.parameters())))


def measure(run: Callable[[], list[Tensor]], device: torch.device) -> tuple[float, list[Tensor], int]:
    """Return seconds, gradients, and the peak of device memory in bytes (0 on a CPU)."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    start = clock(device)
    gradients = run()
    seconds = clock(device) - start
    return seconds, gradients, torch.cuda.max_memory_allocated() if device.type == "cuda" else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rules", nargs="+", choices=list(RULES), default=list(RULES), help="update rules")
    parser.add_argument("--layer", default="layer3", help="which parameters are edited (default: layer3)")
    parser.add_argument("--steps", type=int, default=10, help="k, the number of updates (default: 10)")
    parser.add_argument("--width", type=int, default=64, help="channels of the first chain (default: 64)")
    parser.add_argument("--size", type=int, default=32, help="height and width of the image (default: 32)")
    parser.add_argument("--repeats", type=int, default=3, help="rounds, of which the median counts (default: 3)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--threads", type=int, default=1, help="threads on a CPU (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and image (default: 0)")
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    warnings.filterwarnings("ignore", "Differentiable RMSprop")  # the table shows how its gradients compare
    device = torch.device(arguments.device)
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    network = cifar_resnet18(width=arguments.width).to(device).eval()
    split = SplitNetwork(network, arguments.layer)
    image = torch.randn(1, 3, arguments.size, arguments.size, device=device)
    label = torch.tensor([3], device=device)
    console = Console()
    console.print(processor_line())
    for name in arguments.rules:
        rule, optimizer = RULES[name]
        contestants = {
            "ours (suffix)": partial(by_editor, Editor(rule(), arguments.steps, UNREACHABLE), split, image, label),
            "higher (suffix)": partial(
                by_editor, HigherEditor(optimizer, arguments.steps, UNREACHABLE), split, image, label
            ),
            "higher (whole)": partial(by_higher, optimizer, network, split.names, image, label, arguments.steps),
        }
        seconds: dict[str, list[float]] = {contestant: [] for contestant in contestants}
        memory, gradients = dict.fromkeys(contestants, 0), {}
        for repeat in range(arguments.repeats + 1):  # the first round warms up
            for contestant, run in contestants.items():
                elapsed, gradients[contestant], peak = measure(run, device)
                memory[contestant] = max(memory[contestant], peak)
                if repeat:
                    seconds[contestant].append(elapsed)
        medians = {contestant: statistics.median(values) for contestant, values in seconds.items()}
        table = Table(
            "contestant", "seconds", "ratio to ours", "peak memory, MiB", "gradients against whole",
            title=f"{name}, {arguments.steps} steps on {arguments.layer}, width {arguments.width}, {device.type}",
        )  # fmt: skip
        for contestant, median in medians.items():
            ratio = median / medians["ours (suffix)"]
            peak = f"{memory[contestant] / 2**20:.0f}" if memory[contestant] else "not measured"
            against = distance(gradients[contestant], gradients["higher (whole)"])
            table.add_row(contestant, f"{median:.3f}", f"{ratio:.2f}", peak, f"{against:.1e}")
        console.print(table)


def distance(first: list[Tensor], second: list[Tensor]) -> float:
    """Relative distance between two sets of gradients."""
    a, b = (torch.cat([tensor.flatten() for tensor in tensors]) for tensors in (first, second))
    return float((a - b).norm() / b.norm())


if __name__ == "__main__":
    main()
