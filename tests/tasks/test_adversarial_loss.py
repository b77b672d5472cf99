"""The losses against their formulas."""

import math

import pytest
import torch

from editable.errors import UserError
from editable.tasks.adversarial_loss import AdversarialLoss

REAL, GENERATED = [1.5, -0.5, 0.25], [0.5, -2.0]


def logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_hinge():
    loss = AdversarialLoss("hinge")
    expected = sum(max(0, 1 - x) for x in REAL) / 3 + sum(max(0, 1 + x) for x in GENERATED) / 2
    assert float(loss.discriminator(torch.tensor(REAL), torch.tensor(GENERATED))) == pytest.approx(expected)
    assert float(loss.generator(torch.tensor(GENERATED))) == pytest.approx(0.75)


def test_non_saturating():
    loss = AdversarialLoss("non_saturating")
    expected = -sum(math.log(logistic(x)) for x in REAL) / 3 - sum(math.log(1 - logistic(x)) for x in GENERATED) / 2
    assert float(loss.discriminator(torch.tensor(REAL), torch.tensor(GENERATED))) == pytest.approx(expected)
    expected = -sum(math.log(logistic(x)) for x in GENERATED) / 2
    assert float(loss.generator(torch.tensor(GENERATED))) == pytest.approx(expected)


def test_another_loss():
    with pytest.raises(UserError, match="one of hinge, non_saturating, got 'wasserstein'"):
        AdversarialLoss("wasserstein")
