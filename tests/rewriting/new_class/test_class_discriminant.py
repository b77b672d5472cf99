"""Discriminants of a new class are what Gaussian classes with one covariance say, and what a plain loop computes."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal

from editable.errors import UserError
from editable.rewriting.new_class.class_discriminant import ClassDiscriminant, ClassStatistics, class_statistics


def some_keys(number: int = 60, size: int = 5, classes: int = 3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys of classes that overlap, so that no scale is as good as the largest."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(number) % classes
    centres = torch.randn(classes, size, generator=generator, dtype=torch.float64)
    mixing = torch.randn(size, size, generator=generator, dtype=torch.float64)
    return centres[labels] + torch.randn(number, size, generator=generator, dtype=torch.float64) @ mixing, labels


def plain(keys, old_keys, labels, epsilon, spread):
    """The mean of the new class and scores of all classes before they are scaled, by loops and inverses."""
    size, classes = old_keys.shape[1], int(labels.max()) + 1
    means = [
        sum(old_keys[i] for i in range(len(labels)) if labels[i] == c) / int((labels == c).sum())
        for c in range(classes)
    ]
    within = torch.zeros(size, size, dtype=torch.float64)
    for key, label in zip(old_keys, labels.tolist(), strict=True):
        within += torch.outer(key - means[label], key - means[label]) / (len(labels) - classes)
    metric = within + epsilon * within.diagonal().mean() * torch.eye(size, dtype=torch.float64)
    centre = sum(means) / classes
    between = sum(torch.outer(mean - centre, mean - centre) for mean in means) / (classes - 1) + spread * metric
    # The posterior mean of a Gaussian with a Gaussian prior, by precisions.
    precision = between.inverse() + len(keys) * metric.inverse()
    new = centre + precision.inverse() @ (len(keys) * metric.inverse() @ (keys.mean(0) - centre))
    return new, means, metric


@pytest.mark.parametrize(("epsilon", "spread", "number"), [(0.0, 0.5, 1), (0.3, 1.0, 4), (2.0, 0.01, 2)])
def test_log_odds_are_those_of_gaussian_classes(epsilon, spread, number):
    """Of densities, once the scale is taken out, which is where on a fine grid the likelihood is largest."""
    old_keys, labels = some_keys()
    keys = some_keys(number, seed=1)[0]
    made = ClassDiscriminant(epsilon, spread)(keys, class_statistics(old_keys, labels, 3))
    new, means, metric = plain(keys, old_keys, labels, epsilon, spread)
    judged = some_keys(7, seed=2)[0]

    def log_density(mean, of):
        return MultivariateNormal(mean, metric).log_prob(of)

    def likelihood(scale):
        scores = torch.stack([log_density(mean, old_keys) for mean in means], 1)
        return (scale * scores).log_softmax(1)[torch.arange(60), labels].mean()

    grid = torch.linspace(-3, 0, 3001, dtype=torch.float64).exp()
    scale = grid[torch.stack([likelihood(one) for one in grid]).argmax()]
    apart = [scale * (log_density(new, judged) - log_density(mean, judged)) for mean in means]
    expected = -torch.stack(apart).neg().logsumexp(0)
    torch.testing.assert_close(made.odds(judged), expected, rtol=5e-3, atol=5e-3)
    # Differences of scores are exact up to the scale.
    scores = judged @ made.weight.T + made.bias
    ratio = (scores[:, 0] - scores[:, 1]) / (log_density(new, judged) - log_density(means[0], judged))
    torch.testing.assert_close(ratio, ratio[:1].expand(7), rtol=1e-8, atol=0)


def test_the_mean_is_shrunk_least_where_old_classes_differ_and_hardly_with_many_images():
    """Two old classes apart along the first axis; a new one far along both."""
    means = torch.tensor([[-3.0, 0.0], [3.0, 0.0]], dtype=torch.float64)
    labels = torch.arange(400) % 2
    noise = torch.randn(400, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    old = class_statistics(means[labels] + noise, labels, 2)
    make = ClassDiscriminant(epsilon=0, spread=0.1)

    def mean(number):
        keys = torch.tensor([[6.0, 6.0]], dtype=torch.float64).repeat(number, 1)
        made = make(keys, old)
        return torch.linalg.solve(torch.linalg.inv(old.within), made.weight[0] / scale_of(made, old))

    def scale_of(made, old):
        return (made.weight[1] / torch.linalg.solve(old.within, old.means[0])).mean()

    one, many = mean(1), mean(1000)
    # Prior variances 18 + 0.1 and 0.1 against the unit variance of one image.
    torch.testing.assert_close(one, torch.tensor([6 * 18.1 / 19.1, 6 * 0.1 / 1.1]).double(), rtol=0.1, atol=0.2)
    torch.testing.assert_close(many, torch.tensor([6.0, 6.0]).double(), rtol=0.03, atol=0.1)


def test_statistics_are_means_and_the_covariance_within():
    keys = torch.tensor([[0.0, 0.0], [2.0, 0.0], [10.0, 1.0], [10.0, 3.0]])
    old = class_statistics(keys, torch.tensor([0, 0, 1, 1]), 2)
    assert old.means.tolist() == [[1, 0], [10, 2]]
    assert old.within.tolist() == [[1, 0], [0, 1]]  # squares 2 and 2, over 4 - 2
    assert old.within.dtype == torch.float64


def test_certain_discriminants_keep_their_scale():
    """Classes that lie far apart: no smaller scale is likelier."""
    keys = torch.tensor([[0.0], [0.1], [50.0], [50.1]])
    old = class_statistics(keys, torch.tensor([0, 0, 1, 1]), 2)
    made = ClassDiscriminant(epsilon=0)(torch.tensor([[25.0]]), old)
    assert made.weight[2].item() == pytest.approx(50.05 / 0.005, rel=1e-3)
    assert math.isfinite(made.odds(torch.tensor([[25.0], [0.0]]))[0])


@pytest.mark.parametrize(
    ("keys", "labels", "classes", "message"),
    [
        (torch.zeros(4), torch.zeros(4).long(), 1, r"got shapes \[4\] and \[4\]"),
        (torch.zeros(4, 2), torch.zeros(3).long(), 1, r"got shapes \[4, 2\] and \[3\]"),
        (torch.full((4, 2), torch.nan), torch.tensor([0, 0, 1, 1]), 2, "not finite"),
        (torch.zeros(4, 2), torch.tensor([0, 0, 1, 1]), 3, "each of the 3 old classes, but 1 have none among 4"),
        (torch.zeros(3, 2), torch.tensor([0, 0, 1]), 2, "at least two images more than the 2 classes, got 3"),
    ],
)
def test_statistics_that_do_not_do(keys, labels, classes, message):
    with pytest.raises(UserError, match=message):
        class_statistics(keys, labels, classes)


def test_mistakes():
    old = class_statistics(*some_keys(), 3)
    for setting in ({"epsilon": -0.1}, {"spread": -1.0}, {"epsilon": math.nan}):
        with pytest.raises(UserError, match=r"must be at least 0|must be finite, got nan"):
            ClassDiscriminant(**setting)
    for shape in ((0, 5), (2, 4), (5,)):
        with pytest.raises(UserError, match=r"keys \[n, 5\] of at least one image are needed"):
            ClassDiscriminant()(torch.zeros(shape), old)
    keys = torch.zeros(2, 5)
    keys[1, 2] = torch.inf
    with pytest.raises(UserError, match="reads on image 1 of the new class is not finite"):
        ClassDiscriminant()(keys, old)
    flat = ClassStatistics(old.keys, old.labels, old.means, torch.zeros(5, 5).double())
    with pytest.raises(UserError, match="zero"):
        ClassDiscriminant()(torch.zeros(1, 5), flat)
