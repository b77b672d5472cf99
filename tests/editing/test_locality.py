"""The locality term equals its formula written as a double loop."""

import math

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.nn import functional

from editable.editing import kl_locality


def logits(*shape: int, seed: int = 0) -> Tensor:
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_hand(base: Tensor, edited: Tensor) -> float:
    """KL for each sample and class, averaged over samples alone."""
    total = 0.0
    for before, after in zip(base.tolist(), edited.tolist(), strict=True):
        p = [math.exp(a) / sum(map(math.exp, before)) for a in before]
        q = [math.exp(a) / sum(map(math.exp, after)) for a in after]
        total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    return total / len(base)


@pytest.mark.parametrize("shape", [(1, 2), (4, 3), (9, 10)])
def test_equals_a_double_loop(shape: tuple[int, int]):
    base, edited = logits(*shape), logits(*shape, seed=1)
    assert kl_locality(base, edited).item() == pytest.approx(by_hand(base, edited), rel=1e-10)


def test_is_the_batch_mean_and_not_the_mean_over_classes():
    base, edited = logits(6, 5), logits(6, 5, seed=1)
    expected = functional.kl_div(edited.log_softmax(-1), base.softmax(-1), reduction="batchmean")
    torch.testing.assert_close(kl_locality(base, edited), expected, rtol=1e-10, atol=0)


def test_many_edits_against_one_base():
    base, edited = logits(4, 3), logits(5, 4, 3, seed=1)
    expected = sum(by_hand(base, one) for one in edited) / 5
    assert kl_locality(base, edited).item() == pytest.approx(expected, rel=1e-10)
    assert kl_locality(edited, base).item() == pytest.approx(sum(by_hand(one, base) for one in edited) / 5, rel=1e-10)


def test_zero_where_nothing_moved():
    base = logits(4, 3)
    assert kl_locality(base, base.clone()).item() == pytest.approx(0, abs=1e-15)
    assert kl_locality(base, base + 7.5).item() == pytest.approx(0, abs=1e-14)  # the same probabilities


def test_saturated_probabilities():
    base, edited = torch.tensor([[200.0, 0.0]]), torch.tensor([[0.0, 200.0]])
    assert kl_locality(base, edited).item() == pytest.approx(200)


def test_the_switch_detaches_the_base():
    base, edited = logits(3, 4).requires_grad_(), logits(3, 4, seed=1).requires_grad_()
    kl_locality(base, edited).backward()
    assert base.grad is None
    # d KL / d edited logits = (q − p) / N
    expected = (edited.softmax(-1) - base.softmax(-1)).detach() / 3
    torch.testing.assert_close(edited.grad, expected)
    kl_locality(base, edited, detach_base=False).backward()
    assert base.grad.abs().sum() > 0
    assert gradcheck(lambda base, edited: kl_locality(base, edited, detach_base=False), (base, edited))
