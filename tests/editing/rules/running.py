"""A small problem that update rules, optimizers and recursions written out by hand are run on, in float64."""

from collections.abc import Callable

import torch
from torch import Tensor

from editable.editing import UpdateRule

SHAPES = {"weight": (3, 2), "bias": (4,), "scale": (), "kernel": (2, 1, 2, 2)}


def start(seed: int = 0, shapes: dict[str, tuple[int, ...]] = SHAPES) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()}


def loss_of(params: dict[str, Tensor]) -> Tensor:
    """Smooth, not quadratic, and coupling all tensors."""
    flat = torch.cat([param.flatten() for param in params.values()])
    waves = torch.sin(flat * torch.linspace(0.5, 3, len(flat), dtype=flat.dtype)).sum()
    return waves + (flat.mean() * 2).cosh() + (flat**4).mean()


def gradients(params: dict[str, Tensor], **options: bool) -> dict[str, Tensor]:
    return dict(zip(params, torch.autograd.grad(loss_of(params), list(params.values()), **options), strict=True))


def run(rule: UpdateRule, params: dict[str, Tensor], updates: int, create_graph: bool = False) -> dict[str, Tensor]:
    params = {name: param if param.requires_grad else param.clone().requires_grad_() for name, param in params.items()}
    state = rule.init(params)
    for _ in range(updates):
        params, state = rule.update(gradients(params, create_graph=create_graph), state, params)
        if not create_graph:
            params = {name: param.detach().requires_grad_() for name, param in params.items()}
    return params


def run_optimizer(optimizer: Callable[..., torch.optim.Optimizer], updates: int) -> dict[str, Tensor]:
    params = {name: param.requires_grad_() for name, param in start().items()}
    running = optimizer(list(params.values()))
    for _ in range(updates):
        running.zero_grad()
        loss_of(params).backward()
        running.step()
    return params


def run_by_hand(step: Callable[..., None], updates: int) -> dict[str, Tensor]:
    params, state = start(), {}
    for _ in range(updates):
        grads = gradients({name: param.clone().requires_grad_() for name, param in params.items()})
        step(list(params.values()), list(grads.values()), state)
    return params


def assert_same(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert list(first) == list(second)
    for name in first:
        torch.testing.assert_close(first[name].detach(), second[name].detach(), rtol=1e-9, atol=1e-12)


def assert_same_within_float32(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    """The constant itself was rounded to float32 before it became double."""
    for name in first:
        torch.testing.assert_close(first[name].detach(), second[name].detach(), rtol=1e-5, atol=1e-6)


def name_of(rule: Callable[..., UpdateRule]) -> str:
    return rule.func.__name__
