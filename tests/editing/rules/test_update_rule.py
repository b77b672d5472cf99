"""Every update rule equals torch.optim or a recursion written out by hand, and keeps the promises of the contract."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from editable.editing import GD, Adam, AdaptiveRProp, Momentum, RMSProp, RProp, ScaledGD, UpdateRule
from editable.errors import UserError
from tests.editing import reference
from tests.editing.rules.running import (
    assert_same,
    assert_same_within_float32,
    name_of,
    run,
    run_by_hand,
    run_optimizer,
    start,
)

SIGN_RULES = (RProp, AdaptiveRProp)
optim = torch.optim


@pytest.mark.parametrize("lr", [0.003, 0.1])
@pytest.mark.parametrize(
    ("rule", "optimizer"),
    [
        (GD, optim.SGD),
        (partial(Momentum, decay=0.0), optim.SGD),
        (Momentum, partial(optim.SGD, momentum=0.9)),
        (partial(Momentum, decay=0.4), partial(optim.SGD, momentum=0.4)),
        (partial(Adam, epsilon=0.0), partial(optim.Adam, eps=0.0)),
        (
            partial(Adam, decay=0.5, square_decay=0.8, epsilon=0.0),
            partial(optim.Adam, betas=(0.5, 0.8), eps=0.0),
        ),
        (partial(Adam, decay=0.0, square_decay=0.0, epsilon=0.0), partial(optim.Adam, betas=(0.0, 0.0), eps=0.0)),
        (AdaptiveRProp, optim.Rprop),
        (partial(AdaptiveRProp, shrink=0.3, grow=2.0), partial(optim.Rprop, etas=(0.3, 2.0))),
        (
            partial(AdaptiveRProp, shrink=0.3, grow=2.0, min_step=0.02, max_step=0.15),
            partial(optim.Rprop, etas=(0.3, 2.0), step_sizes=(0.02, 0.15)),
        ),
    ],
)
def test_equals_torch_optim(rule: Callable[..., UpdateRule], optimizer: Callable[..., optim.Optimizer], lr: float):
    assert_same(run(rule(learning_rate=lr), start(), 9), run_optimizer(partial(optimizer, lr=lr), 9))


@pytest.mark.parametrize("lr", [0.003, 0.1])
@pytest.mark.parametrize(
    ("rule", "step"),
    [
        (ScaledGD, reference.scaled_gd),
        (RProp, reference.rprop),
        (RMSProp, reference.rmsprop),
        (partial(RMSProp, decay=0.9, epsilon=1e-2), partial(reference.rmsprop, beta=0.9, epsilon=1e-2)),
        (partial(RMSProp, decay=0.0), partial(reference.rmsprop, beta=0.0)),
        (Adam, reference.adam),
        (
            partial(Adam, decay=0.3, square_decay=0.6, epsilon=0.1),
            partial(reference.adam, beta1=0.3, beta2=0.6, epsilon=0.1),
        ),
        (AdaptiveRProp, reference.adaptive_rprop),
        (Momentum, reference.momentum),
    ],
)
def test_equals_the_recursion_by_hand(rule: Callable[..., UpdateRule], step: Callable[..., None], lr: float):
    assert_same(run(rule(learning_rate=lr), start(), 6), run_by_hand(partial(step, lr=lr), 6))


RULES = [
    partial(GD, 0.05),
    partial(ScaledGD, 0.05),
    partial(Momentum, 0.05, 0.8),
    partial(RMSProp, 0.05, 0.6),
    partial(RProp, 0.05),
    partial(AdaptiveRProp, 0.05),
    partial(Adam, 0.05, 0.7, 0.9),
]
LEARNABLE_DECAY = (Momentum, RMSProp, Adam)


@pytest.mark.parametrize("rule", RULES, ids=name_of)
def test_meta_gradient_with_respect_to_the_first_parameters(rule):
    params = {name: param.requires_grad_() for name, param in start().items()}

    def final(*values: Tensor) -> tuple[Tensor, ...]:
        return tuple(run(rule(), dict(zip(params, values, strict=True)), 4, create_graph=True).values())

    assert gradcheck(final, tuple(params.values()))
    if rule.func in SIGN_RULES:
        # A sign does not move with the parameters: the final parameters are the first ones plus a constant.
        flat = torch.cat([value.flatten() for value in final(*params.values())])
        rows = []
        for value in flat:
            parts = torch.autograd.grad(value, list(params.values()), retain_graph=True, materialize_grads=True)
            rows.append(torch.cat([part.flatten() for part in parts]))
        assert torch.equal(torch.stack(rows), torch.eye(len(flat), dtype=flat.dtype))


@pytest.mark.parametrize("rule", RULES, ids=name_of)
def test_learnable_learning_rate(rule):
    learnt, fixed = rule(learn_learning_rate=True), rule()
    assert isinstance(fixed.learning_rate, float)
    assert not list(fixed.parameters())
    assert learnt.learning_rate.item() == pytest.approx(0.05, rel=1e-6)
    learnt.double()
    assert_same_within_float32(run(learnt, start(), 4), run(fixed, start(), 4))
    assert gradcheck(lambda _: tuple(run(learnt, start(), 4, True).values()), (learnt.log_learning_rate,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rule", RULES, ids=name_of)
def test_finite_where_the_gradient_vanishes(rule, dtype: torch.dtype):
    constants = rule(learn_learning_rate=True, **({"learn_decay": True} if rule.func in LEARNABLE_DECAY else {}))
    first = {name: param.to(dtype).requires_grad_() for name, param in start().items()}
    zeros = {name: torch.zeros_like(param, requires_grad=True) for name, param in first.items()}
    some = {name: torch.zeros_like(param).requires_grad_() for name, param in first.items()}
    with torch.no_grad():
        some["bias"][0] = 1.0  # only one weight of all has a gradient
    for sequence in ([zeros, zeros, zeros], [zeros, some, zeros]):
        params, state = first, constants.init(first)
        for grads in sequence:
            params, state = constants.update(grads, state, params)
        total = sum(param.square().sum() for param in params.values())
        wanted = [*first.values(), *zeros.values(), *some.values(), *constants.parameters()]
        found = torch.autograd.grad(total, wanted, allow_unused=True, materialize_grads=True)
        assert all(torch.isfinite(value).all() for value in [*params.values(), *found])


@pytest.mark.parametrize("rule", RULES, ids=name_of)
def test_vmap_equals_a_loop(rule):
    rule, starts = rule(), [start(seed) for seed in range(3)]
    grads = [[start(seed + 10 * step) for seed in range(3)] for step in range(1, 4)]
    # An edit whose gradient is zero at first has another state than its neighbours.
    grads[0][1] = {name: torch.zeros_like(grad) for name, grad in grads[0][1].items()}

    def stack(trees: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        return {name: torch.stack([tree[name] for tree in trees]) for name in trees[0]}

    params = stack(starts)
    state = torch.func.vmap(rule.init)(params)
    for step in grads:
        params, state = torch.func.vmap(rule.update)(stack(step), state, params)
    for edit in range(3):
        alone, memory = starts[edit], rule.init(starts[edit])
        for step in grads:
            alone, memory = rule.update(step[edit], memory, alone)
        assert_same({name: param[edit] for name, param in params.items()}, alone)


@pytest.mark.parametrize("rule", RULES, ids=name_of)
def test_out_of_place(rule):
    rule, params = rule(), start()
    state = rule.init(params)
    for seed in (1, 2, 3):
        grads = start(seed)
        kept = [[{k: v.clone() for k, v in tree.items()} for tree in (params, grads, *state.values())]]
        updated, next_state = rule.update(grads, state, params)
        for before, after in zip(kept[0], (params, grads, *state.values()), strict=True):
            assert all(torch.equal(before[name], after[name]) for name in before)
        assert list(updated) == list(params)
        assert all(updated[name].shape == param.shape for name, param in params.items())
        params, state = updated, next_state


@pytest.mark.parametrize("bad", [0, 0.0, -1e-3, float("nan")])
@pytest.mark.parametrize("rule", RULES, ids=name_of)
def test_learning_rate_must_be_positive(rule, bad: float):
    with pytest.raises(UserError, match=f"^learning_rate must be (positive|finite), got {bad}"):
        rule.func(bad)


@pytest.mark.filterwarnings("error")
def test_constants_are_shown():
    assert "learning_rate=0.01" in repr(GD(0.01))
    assert "decay=0.5" in repr(RMSProp(0.01, learn_learning_rate=True, learn_decay=True))
