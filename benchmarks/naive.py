"""The benchmarks' clock and naive procedures: deep copies, the whole network, one edit at a time."""

import copy
import time
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

Step = Callable[[list[Tensor], list[Tensor], dict[str, list[Tensor]]], None]
"""``step(params, grads, memory)`` changes the parameters in place; the memory is empty before the first step."""


def naive_objective(logits: Tensor, targets: Tensor, margin: float = 0.0) -> Tensor:
    """The edit objective, as one would write it down for a batch of logits [N, C]."""
    log_p = logits.log_softmax(dim=-1)
    reference = log_p.gather(1, targets.unsqueeze(1)).squeeze(1)
    others = log_p.scatter(1, targets.unsqueeze(1), -torch.inf)
    return (margin + others.max(dim=1).values - reference).clamp_min(0).mean()


def gd(learning_rate: float) -> Step:
    """θ ← θ − αg."""

    def step(params: list[Tensor], grads: list[Tensor], memory: dict[str, list[Tensor]]) -> None:
        for param, grad in zip(params, grads, strict=True):
            param -= learning_rate * grad

    return step


def rmsprop(learning_rate: float, decay: float = 0.5, epsilon: float = 1e-6) -> Step:
    """s₀ = g₀², s ← βs + (1−β)g²; θ ← θ − αg/√(s+ε)."""

    def step(params: list[Tensor], grads: list[Tensor], memory: dict[str, list[Tensor]]) -> None:
        squares = memory.get("square")
        if squares is None:
            memory["square"] = [grad**2 for grad in grads]
        else:
            memory["square"] = [decay * s + (1 - decay) * grad**2 for s, grad in zip(squares, grads, strict=True)]
        for param, grad, s in zip(params, grads, memory["square"], strict=True):
            param -= learning_rate * grad / (s + epsilon).sqrt()

    return step


def naive_edit(
    network: nn.Module, names: Sequence[str], step: Step, images: Tensor, labels: Tensor, max_steps: int
) -> tuple[nn.Module, bool, int]:
    """Edit a deep copy in place; return it, whether the edit succeeded, and its number of updates."""
    edited = copy.deepcopy(network).eval()
    params = [edited.get_parameter(name) for name in names]
    memory: dict[str, list[Tensor]] = {}
    for num_steps in range(max_steps + 1):
        loss = naive_objective(edited(images), labels)
        if loss.item() <= 0:
            return edited, True, num_steps
        if num_steps < max_steps:
            grads = torch.autograd.grad(loss, params)
            with torch.no_grad():
                step(params, list(grads), memory)
    return edited, False, max_steps


@torch.no_grad()
def naive_errors(network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> int:
    """Run the whole network over all images and count its mistakes."""
    network.eval()
    return sum(int((network(images).argmax(dim=1) != labels).sum()) for images, labels in batches)


def clock(device: torch.device) -> float:
    """Return processor seconds on a CPU, which other programs do not lengthen, else wall-clock seconds."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()
