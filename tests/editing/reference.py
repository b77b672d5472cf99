"""Plain, slow second implementations that the editing tests compare against: in-place updates on deep copies."""

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

Step = Callable[[Sequence[Tensor], Sequence[Tensor], dict], None]


def margin_loss(logits: Tensor, targets: Tensor, margin: float = 0.0) -> Tensor:
    """The edit objective, one sample and one label after the other."""
    total = logits.new_zeros(())
    for row, target in zip(logits, targets.tolist(), strict=True):
        log_p = row - row.exp().sum().log()
        best = max((log_p[y] for y in range(len(row)) if y != target), key=Tensor.item)
        lag = margin + best - log_p[target]
        if lag > 0:
            total = total + lag
    return total / len(targets)


def gd(params, grads, state, lr):
    for param, grad in zip(params, grads, strict=True):
        param -= lr * grad


def scaled_gd(params, grads, state, lr):
    norm = sum(float((grad**2).sum()) for grad in grads) ** 0.5
    for param, grad in zip(params, grads, strict=True):
        param -= lr * grad / norm


def momentum(params, grads, state, lr, mu=0.9):
    first = "m" not in state
    state["m"] = [g.clone() if first else mu * m + g for m, g in zip(state.get("m", grads), grads, strict=True)]
    for param, m in zip(params, state["m"], strict=True):
        param -= lr * m


def rmsprop(params, grads, state, lr, beta=0.5, epsilon=1e-6):
    first = "s" not in state
    squares = state.get("s", grads)
    state["s"] = [g**2 if first else beta * s + (1 - beta) * g**2 for s, g in zip(squares, grads, strict=True)]
    for param, grad, s in zip(params, grads, state["s"], strict=True):
        param -= lr * grad / (s + epsilon) ** 0.5


def rprop(params, grads, state, lr):
    for param, grad in zip(params, grads, strict=True):
        param -= lr * ((grad > 0).to(grad) - (grad < 0).to(grad))


def adam(params, grads, state, lr, beta1=0.9, beta2=0.999, epsilon=1e-16):
    t = state["t"] = state.get("t", 0) + 1
    for index, (param, grad) in enumerate(zip(params, grads, strict=True)):
        m, v = state.get(index, (torch.zeros_like(grad), torch.zeros_like(grad)))
        m, v = beta1 * m + (1 - beta1) * grad, beta2 * v + (1 - beta2) * grad**2
        state[index] = m, v
        param -= lr * (m / (1 - beta1**t)) / (v / (1 - beta2**t) + epsilon) ** 0.5


def adaptive_rprop(params, grads, state, lr, shrink=0.5, grow=1.2, low=1e-6, high=50.0):
    for index, (param, grad) in enumerate(zip(params, grads, strict=True)):
        flat, before, sizes = grad.flatten().tolist(), *state.get(index, ([0.0] * grad.numel(), [lr] * grad.numel()))
        moves = []
        for weight, (g, previous, size) in enumerate(zip(flat, list(before), list(sizes), strict=True)):
            factor = grow if g * previous > 0 else shrink if g * previous < 0 else 1.0
            size = min(max(size * factor, low), high)
            g = 0.0 if g * previous < 0 else g
            moves.append(size * ((g > 0) - (g < 0)))
            flat[weight], sizes[weight] = g, size
        state[index] = flat, sizes
        param -= torch.tensor(moves, dtype=param.dtype).view_as(param)


def textbook_edit(
    network: nn.Module,
    names: Sequence[str],
    step: Step,
    images: Tensor,
    labels: Tensor,
    max_steps: int,
    margin: float = 0.0,
) -> tuple[nn.Module, bool, int]:
    """Edit a deep copy of the whole network in place: the copy, whether it succeeded, and its number of updates."""
    edited = copy.deepcopy(network).eval()
    params = [edited.get_parameter(name) for name in names]
    state: dict = {}
    for num_steps in range(max_steps + 1):
        loss = margin_loss(edited(images), labels, margin)
        if loss.item() <= 0:
            return edited, True, num_steps
        if num_steps < max_steps:
            grads = torch.autograd.grad(loss, params)
            with torch.no_grad():
                step(params, grads, state)
    return edited, False, max_steps


def conv_network(num_classes: int = 5, seed: int = 0, dtype: torch.dtype = torch.float64) -> nn.Module:
    """A small convolutional network with BatchNorm whose statistics are not the initial ones; in training mode."""
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 6, 3, stride=2),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(6 * 4, num_classes),
    )
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return network.to(dtype).train()


def images_of(number: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    """Random images [number, 2, 6, 6]."""
    return torch.randn(number, 2, 6, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)
