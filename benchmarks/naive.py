"""The benchmarks' clock and naive procedures: deep copies, the whole network, one edit at a time."""

import copy
import time
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

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


def naive_training_loss(
    network: nn.Module,
    names: Sequence[str],
    images: Tensor,
    labels: Tensor,
    target: Tensor,
    max_steps: int,
    margin: float,
    learning_rate: float = 1e-3,
    decay: float = 0.5,
    epsilon: float = 1e-6,
    weight: float = 0.01,
) -> Tensor:
    """The published training loss, as one would write it down: edit the first image on the whole network by RMSProp."""
    logits = network.train()(images)
    base = functional.cross_entropy(logits, labels)
    network.eval()
    params = {name: network.get_parameter(name) for name in names}
    squares: dict[str, Tensor] = {}
    for _ in range(max_steps):
        loss = naive_objective(functional_call(network, params, images[:1]), target, margin)
        grads = dict(zip(names, torch.autograd.grad(loss, list(params.values()), create_graph=True), strict=True))
        for name, grad in grads.items():
            squares[name] = decay * squares[name] + (1 - decay) * grad**2 if name in squares else grad**2
        params = {
            name: param - learning_rate * grads[name] / (squares[name] + epsilon).sqrt()
            for name, param in params.items()
        }
    edit = naive_objective(functional_call(network, params, images[:1]), target, margin)
    log_edited = functional_call(network, params, images).log_softmax(dim=-1)
    log_base = logits.detach().log_softmax(dim=-1)
    locality = (log_base.exp() * (log_base - log_edited)).sum(dim=-1).mean()
    return base + weight * edit + weight * locality


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
