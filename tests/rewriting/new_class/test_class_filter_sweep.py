"""A sweep over λ: a row for each, judged on the images that the caller scores."""

import math

import pytest
import torch

from editable.errors import UserError
from editable.models import cifar_resnet
from editable.rewriting.memory.block import LayerBlock
from editable.rewriting.new_class.class_filter import ClassFilterTraining, filter_maps, make_filter_examples
from editable.rewriting.new_class.class_filter_sweep import sweep_negative_weights


@pytest.fixture
def block() -> LayerBlock:
    torch.manual_seed(0)
    return LayerBlock(cifar_resnet(3, width=4, layers=(1, 1, 1, 1)).double(), "layer2.0.conv1")


def images(number: int, seed: int) -> torch.Tensor:
    return torch.randn(number, 3, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_rows_are_those_of_single_trainings(block):
    examples = make_filter_examples(block, images(2, 1), None, images(3, 2))
    judging, positive = block.inputs(images(6, 3)), torch.tensor([True, False] * 3)
    weights = torch.tensor([1.0, 2.0, 1.0, 3.0, 1.0, 1.0])
    training, lambdas, calls = ClassFilterTraining(num_steps=40, seed=3), [0.0, 0.01, 0.05], []

    def score(filters):
        calls.append(len(filters))
        return torch.cat([filter_maps(block, judging, one.weight).mean((2, 3)) for one in filters], dim=1)

    rows = sweep_negative_weights(block, examples, lambdas, score, positive, weights, training)
    assert calls == [3]
    assert [row.negative_weight for row in rows] == lambdas
    for row in rows:
        alone = ClassFilterTraining(row.negative_weight, num_steps=40, seed=3)(block, examples)
        assert row.loss == alone.losses[-1]
        on_positives, on_negatives = (
            filter_maps(block, read, alone.weight).sigmoid().mean().item()
            for read in (examples.positives, examples.negatives)
        )
        assert (row.positive_activation, row.negative_activation) == pytest.approx((on_positives, on_negatives))
        scores = filter_maps(block, judging, alone.weight).mean((1, 2, 3))
        won = [weights[p] * weights[n] * (scores[p] > scores[n]) for p in (0, 2, 4) for n in (1, 3, 5)]
        assert row.auc == pytest.approx(sum(won).item() / (3 * 6))
    assert rows[0].negative_activation > rows[1].negative_activation > rows[2].negative_activation


def test_without_negatives(block):
    examples = make_filter_examples(block, images(1, 1))
    positive = torch.tensor([True, False])
    (row,) = sweep_negative_weights(block, examples, [0.0], lambda _: torch.tensor([[1.0], [0.0]]), positive)
    assert math.isnan(row.negative_activation)
    assert row.auc == 1


def test_mistakes(block):
    examples = make_filter_examples(block, images(1, 1), None, images(1, 2))

    def sweep(lambdas, positive=(True, False)):
        scores = torch.zeros(2, len(lambdas))
        sweep_negative_weights(block, examples, lambdas, lambda _: scores, torch.tensor(positive))

    for lambdas in ([], [0.1, 0.1]):
        with pytest.raises(UserError, match="a sweep needs different weights of negatives, at least one"):
            sweep(lambdas)
    with pytest.raises(UserError, match="got -1"):
        sweep([0.0, -1.0])
    with pytest.raises(UserError, match="of negative ones there are 0"):
        sweep([0.0], (True, True))
