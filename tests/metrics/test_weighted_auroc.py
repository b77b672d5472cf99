"""The weighted ROC curve and its area, against values by hand and a count over all pairs."""

import numpy as np
import pytest
import torch
from torchmetrics.classification import BinaryAUROC

from editable.errors import UserError
from editable.metrics.weighted_auroc import WeightedAUROC, weighted_auroc, weighted_roc, weights_by_class


def over_pairs(scores, positive, weights) -> float:
    """The probability that a positive is above a negative, a tie counting half."""
    won = total = 0.0
    for s_p, w_p in zip(scores[positive], weights[positive], strict=True):
        for s_n, w_n in zip(scores[~positive], weights[~positive], strict=True):
            won += w_p * w_n * (1.0 if s_p > s_n else 0.5 if s_p == s_n else 0.0)
            total += w_p * w_n
    return won / total


def samples(number: int, levels: int, seed: int):
    """Scores of which many are equal."""
    random = np.random.default_rng(seed)
    positive = random.random(number) < 0.3
    positive[:2] = True, False
    return random.integers(0, levels, number) / 4 - 1, positive, random.random(number) * random.integers(0, 3, number)


def tensors(*arrays):
    return tuple(torch.from_numpy(array) for array in arrays)


def test_by_hand():
    """Two positives at 0.9 (weight 1) and 0.4 (weight 3); negatives at 0.4 (weight 2), 0.1 (weight 1).

    (0.9: 1·2 + 1·1) + (0.4: 3·2·½ + 3·1) = 9 of 4·3 pairs.
    """
    scores = torch.tensor([0.9, 0.4, 0.1, 0.4])
    positive = torch.tensor([True, False, False, True])
    weights = torch.tensor([1.0, 2.0, 1.0, 3.0])
    assert weighted_auroc(scores, positive, weights).item() == pytest.approx(9 / 12, abs=1e-15)
    assert weighted_auroc(scores, positive).item() == pytest.approx((2 + 1.5) / 4, abs=1e-15)
    curve = weighted_roc(scores, positive, weights)
    assert curve.false_positive_rate.tolist() == pytest.approx([0, 0, 2 / 3, 1])
    assert curve.true_positive_rate.tolist() == pytest.approx([0, 1 / 4, 1, 1])
    assert curve.thresholds.tolist() == pytest.approx([float("inf"), 0.9, 0.4, 0.1])


@pytest.mark.parametrize("levels", [1, 2, 5, 10**6])
@pytest.mark.parametrize("seed", range(3))
def test_equals_a_count_over_all_pairs(levels, seed):
    scores, positive, weights = samples(60, levels, seed)
    weights[:2] = 1
    expected = over_pairs(scores, positive, weights)
    assert weighted_auroc(*tensors(scores, positive, weights)).item() == pytest.approx(expected, abs=1e-12)


def test_extremes():
    positive = torch.tensor([False, True, False, True])
    assert weighted_auroc(positive.double(), positive) == 1
    assert weighted_auroc(-positive.double(), positive) == 0
    assert weighted_auroc(torch.ones(4), positive) == 0.5


def test_weights_that_are_constant_within_positives_and_negatives_change_nothing():
    scores, positive, _ = tensors(*samples(200, 9, 0))
    constant = torch.where(positive, 7.0, 0.2)
    plain = weighted_auroc(scores, positive)
    assert weighted_auroc(scores, positive, constant).item() == pytest.approx(plain.item(), abs=1e-12)
    # torchmetrics takes scores beyond [0, 1] for logits and rounds them off; these are within.
    assert BinaryAUROC()((scores + 1) / 4, positive.long()).item() == pytest.approx(plain.item(), abs=1e-6)


def test_weights_by_class_let_every_other_class_count_the_same():
    """Class 0 has one image, class 1 three; class 2 is the new one."""
    labels = torch.tensor([1, 1, 0, 1, 2, 2])
    weights = weights_by_class(labels)
    assert weights.tolist() == pytest.approx([1 / 3, 1 / 3, 1, 1 / 3, 1 / 2, 1 / 2])
    scores = torch.tensor([0.1, 0.2, 0.9, 0.3, 0.8, 0.7])  # above class 1 always, above class 0 never
    assert weighted_auroc(scores, labels == 2, weights).item() == pytest.approx(0.5)
    assert weighted_auroc(scores, labels == 2).item() == pytest.approx(0.75)


def test_an_image_of_weight_two_is_an_image_that_is_there_twice():
    scores, positive, _ = tensors(*samples(30, 6, 1))
    weights = torch.ones(30)
    weights[[3, 8]] = 2
    twice = torch.cat([torch.arange(30), torch.tensor([3, 8])])
    expected = weighted_auroc(scores[twice], positive[twice])
    assert weighted_auroc(scores, positive, weights).item() == pytest.approx(expected.item(), abs=1e-12)


def test_large_and_close_scores_are_told_apart():
    """As logits far from zero: a sigmoid in between would make them equal."""
    assert weighted_auroc(torch.tensor([101.0, 100.0]), torch.tensor([True, False])) == 1


def test_metric_adds_up_over_batches_and_processes():
    scores, positive, weights = tensors(*samples(90, 7, 2))
    expected = over_pairs(scores.numpy(), positive.numpy(), weights.numpy())
    whole, first, second = WeightedAUROC(), WeightedAUROC(), WeightedAUROC()
    for part in (slice(0, 1), slice(1, 40), slice(40, 40), slice(40, 90)):
        whole.update(scores[part], positive[part], weights[part])
    assert whole.compute().item() == pytest.approx(expected, abs=1e-12)
    assert whole.curve().true_positive_rate[-1] == 1
    first.update(scores[:40], positive[:40], weights[:40])
    second.update(scores[40:], positive[40:], weights[40:])
    remote = iter([getattr(second, state)[0] for state in first._defaults])
    first.distributed_available_fn = lambda: True
    first.dist_sync_fn = lambda tensor, group=None: [tensor, next(remote)]
    assert first.compute().item() == pytest.approx(expected, abs=1e-12)
    whole.reset()
    whole.update(scores, positive)
    assert whole.compute().item() == pytest.approx(weighted_auroc(scores, positive).item(), abs=1e-12)
    assert WeightedAUROC.higher_is_better


def test_metric_of_one_class_alone_is_undefined():
    metric = WeightedAUROC()
    metric.update(torch.zeros(0), torch.zeros(0, dtype=torch.bool))
    assert metric.compute().isnan()
    metric.update(torch.tensor([0.1, 0.2]), torch.tensor([True, True]))
    assert metric.compute().isnan()


@pytest.mark.parametrize(
    ("scores", "positive", "weights", "message"),
    [
        ([1.0, 2.0], [True, True], None, "of negative ones there are 0"),
        ([1.0, 2.0], [False, False], None, "of positive ones there are 0"),
        ([1.0, 2.0], [True, False], [0.0, 1.0], "of positive ones there are 1, all of weight 0"),
        ([1.0, 2.0], [True, False], [1.0, -1.0], "not negative, got values from -1.0"),
        ([1.0, float("nan")], [True, False], None, "scores must be finite, but 1 of 2 are not"),
        ([1.0, 2.0], [True], None, "of one shape"),
        ([], [], None, "there are 0"),
    ],
)
def test_mistakes(scores, positive, weights, message):
    weights = None if weights is None else torch.tensor(weights)
    with pytest.raises(UserError, match=message):
        weighted_auroc(torch.tensor(scores), torch.tensor(positive, dtype=torch.bool), weights)
