"""The ROC curve of target classes, against values by hand and a count over all pairs."""

import pytest
import torch

from editable.errors import UserError
from editable.metrics.target_roc import TargetRoc, target_probability


def log_odds(*probabilities: float) -> torch.Tensor:
    """Logits of two classes, of which the first has the given probabilities."""
    first = torch.tensor(probabilities, dtype=torch.float64)
    return torch.stack([first, 1 - first], dim=1).log()


def over_pairs(scores, positive) -> float:
    pairs = [(p, n) for p in scores[positive].tolist() for n in scores[~positive].tolist()]
    return sum(1.0 if p > n else 0.5 if p == n else 0.0 for p, n in pairs) / len(pairs)


def test_by_hand():
    """Of the positives, 0.9 is above both negatives, 0.4 above one and level with the other: 3.5 of 4 pairs."""
    metric = TargetRoc([0])
    metric.update(log_odds(0.9, 0.4), torch.tensor([True, False]))
    metric.update(log_odds(0.1, 0.4), torch.tensor([False, True]))
    curve = metric.compute()
    assert curve.auc.item() == pytest.approx(3.5 / 4, abs=1e-12)
    assert curve.false_positive_rate.tolist() == pytest.approx([0, 0, 0.5, 1])
    assert curve.true_positive_rate.tolist() == pytest.approx([0, 0.5, 1, 1])


def test_several_targets_equal_a_count_over_all_pairs():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(80, 5, generator=generator, dtype=torch.float64)
    labels = torch.randint(5, (80,), generator=generator)
    positive = (labels == 1) | (labels == 4)
    exponentials = logits.exp()
    expected = over_pairs((exponentials[:, 1] + exponentials[:, 4]) / exponentials.sum(dim=1), positive)
    whole, first, second = TargetRoc([1, 4]), TargetRoc([1, 4]), TargetRoc([1, 4])
    for metric, part in ((whole, slice(0, 80)), (first, slice(0, 30)), (second, slice(30, 80))):
        metric.update(logits[part], positive[part])
    assert whole.compute().auc.item() == pytest.approx(expected, abs=1e-6)
    remote = iter([getattr(second, state)[0] for state in first._defaults])
    first.distributed_available_fn = lambda: True
    first.dist_sync_fn = lambda tensor, group=None: [tensor, next(remote)]
    assert first.compute().auc.item() == pytest.approx(expected, abs=1e-6)


def test_a_sum_of_probabilities_is_never_above_one():
    """Rounding may take a sum of many probabilities beyond 1, which torchmetrics would squash as a logit."""
    logits = torch.randn(200, 49, generator=torch.Generator().manual_seed(1)) / 10
    assert target_probability(logits, range(49)).max() <= 1
    metric = TargetRoc(range(49))
    metric.update(logits, torch.arange(200) % 2 == 0)
    assert torch.cat(metric.preds).min() > 0.999


@pytest.mark.parametrize("positive", [[], [True, True], [False]])
def test_one_kind_of_image_alone_has_no_curve(positive):
    metric = TargetRoc([0])
    metric.update(log_odds(*[0.5] * len(positive)), torch.tensor(positive, dtype=torch.bool))
    curve = metric.compute()
    assert curve.auc.isnan()
    assert len(curve.false_positive_rate) == 0


@pytest.mark.filterwarnings("ignore:The ``compute`` method .* was called before the ``update``")
def test_no_image_has_no_curve():
    assert TargetRoc([0]).compute().auc.isnan()


def test_no_target_is_refused():
    with pytest.raises(UserError, match="needs at least one of them"):
        TargetRoc([])
