"""The edit objective equals its formula, sample by sample, and is fit to be differentiated."""

import pytest
import torch
from torch.autograd import gradcheck

from editable.editing import MarginObjective
from editable.editing.editors.objective import is_predicted
from tests.editing.reference import margin_loss


def random_logits(*shape: int, seed: int = 0) -> torch.Tensor:
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("margin", [0.0, 0.7, 20.0])
@pytest.mark.parametrize("num_samples", [1, 2, 7])
def test_equals_a_plain_loop(num_samples: int, margin: float):
    for seed in range(5):
        logits = random_logits(num_samples, 6, seed=seed)
        targets = torch.randint(6, (num_samples,), generator=torch.Generator().manual_seed(seed))
        expected = margin_loss(logits, targets, margin)
        torch.testing.assert_close(MarginObjective(margin)(logits, targets), expected, rtol=1e-12, atol=1e-14)


def test_equals_the_version_with_all_labels_for_one_sample():
    for seed in range(20):
        logits = random_logits(1, 4, seed=seed)
        log_p = logits[0] - logits[0].exp().sum().log()
        for reference in range(4):
            expected = max(0.0, float(max(log_p) - log_p[reference]))
            value = MarginObjective()(logits, torch.tensor([reference]))
            assert float(value) == pytest.approx(expected, rel=1e-12, abs=1e-14)


def test_zero_exactly_where_every_reference_leads():
    for seed in range(30):
        logits = random_logits(2, 3, seed=seed)
        for first in range(3):
            for second in range(3):
                leads = logits.argmax(dim=-1).tolist() == [first, second]
                assert (MarginObjective()(logits, torch.tensor([first, second])) == 0) == leads


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_tie_counts_as_success(dtype: torch.dtype):
    logits = torch.tensor([[1.3, 1.3, -2.0], [0.1, 0.1, 0.1]], dtype=dtype)
    for targets in ([0, 0], [1, 2]):
        assert MarginObjective()(logits, torch.tensor(targets)) == 0
    assert MarginObjective(0.5)(logits, torch.tensor([0, 1])).item() == pytest.approx(0.5)


def test_the_margin_counts_in_nats():
    logits = torch.tensor([[2.0, 1.0, 0.0]])
    assert MarginObjective(0.9)(logits, torch.tensor([0])) == 0
    assert MarginObjective(1.5)(logits, torch.tensor([0])).item() == pytest.approx(0.5)
    assert MarginObjective(1.5)(logits, torch.tensor([2])).item() == pytest.approx(3.5)


def test_confidences_beyond_floating_point():
    logits = torch.tensor([[1000.0, -1000.0, 0.0]])
    assert MarginObjective()(logits, torch.tensor([1])).item() == pytest.approx(2000)
    assert MarginObjective()(logits, torch.tensor([0])) == 0


def test_one_class_leads_alone():
    assert MarginObjective()(torch.tensor([[3.0]]), torch.tensor([0])) == 0


def test_vmap_equals_a_loop():
    logits, targets = random_logits(5, 3, 4), torch.arange(15).view(5, 3) % 4
    together = torch.func.vmap(MarginObjective(0.3))(logits, targets)
    one_by_one = torch.stack([MarginObjective(0.3)(*edit) for edit in zip(logits, targets, strict=True)])
    torch.testing.assert_close(together, one_by_one, rtol=1e-12, atol=0)


def test_predicted_are_the_labels_above_all_others_in_any_shape():
    logits = torch.randint(4, (5, 3, 6), generator=torch.Generator().manual_seed(0)).double()
    labels = logits.argmax(dim=-1)
    expected = [[row.count(max(row)) == 1 for row in rows] for rows in logits.tolist()]
    assert is_predicted(logits, labels).tolist() == expected
    assert {True, False} <= {right for rows in expected for right in rows}
    assert not is_predicted(logits, logits.argmin(dim=-1)).any()


def test_gradients():
    logits, targets = random_logits(3, 4).requires_grad_(), torch.tensor([0, 1, 2])
    assert gradcheck(lambda logits: MarginObjective(5.0)(logits, targets), (logits,))


@pytest.mark.parametrize("margin", [0.0, 0.5])
def test_finite_gradient_at_a_tie(margin: float):
    logits = torch.tensor([[1.0, 1.0, -1.0], [2.0, 2.0, 2.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(MarginObjective(margin)(logits, torch.tensor([0, 1])), logits, create_graph=True)
    assert torch.isfinite(gradient).all()
    if gradient.requires_grad:
        (second,) = torch.autograd.grad(gradient.square().sum(), logits, allow_unused=True, materialize_grads=True)
        assert torch.isfinite(second).all()


def test_shows_its_margin():
    assert repr(MarginObjective(0.5)) == "MarginObjective(margin=0.5)"
    assert repr(MarginObjective(0.5, strict=True)) == "MarginObjective(margin=0.5, strict=True)"
