"""A new class's filter is trained to its silhouette by the objective as written, and beside a layer as it is."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from editable.errors import UserError
from editable.models import cifar_resnet, grow_classes
from editable.rewriting.memory.block import LayerBlock
from editable.rewriting.new_class.class_filter import (
    ClassFilterTraining,
    FilterExamples,
    filter_maps,
    make_filter_examples,
)
from editable.rewriting.new_class.class_filter_sweep import activations

LAYER = "layer2.0.conv1"


@pytest.fixture
def block() -> LayerBlock:
    torch.manual_seed(0)
    return LayerBlock(cifar_resnet(3, width=4, layers=(1, 1, 1, 1)).double(), LAYER)


def images(number: int, seed: int) -> torch.Tensor:
    return torch.randn(number, 3, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def binary_cross_entropy(maps: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    probability = 1 / (1 + (-maps).exp())
    return -(targets * probability.log() + (1 - targets) * (1 - probability).log())


def objective(block, examples, weight, negative_weight) -> torch.Tensor:
    """Eq. 4.4 of the source, one example after the other; the layer has stride 2 and padding 1."""
    total = weight.new_zeros(())
    for x, y in zip(examples.positives, examples.silhouettes, strict=True):
        maps = functional.conv2d(x[None], weight, stride=2, padding=1)[0, 0]
        total = total + binary_cross_entropy(maps, y).mean() / len(examples.positives)
    for x in examples.negatives:
        maps = functional.conv2d(x[None], weight, stride=2, padding=1)[0, 0]
        total = total + negative_weight * binary_cross_entropy(maps, torch.zeros_like(maps)).mean()
    return total


@pytest.mark.parametrize("negative_weight", [0.0, 0.05])
def test_training_is_descent_on_the_objective_as_written(block, negative_weight):
    masks = torch.zeros(2, 8, 8, dtype=torch.float64)
    masks[0, :4] = 1
    masks[1, 2:, 2:] = 0.5
    examples = make_filter_examples(block, images(2, 1), masks, images(3, 2))
    training = ClassFilterTraining(negative_weight, learning_rate=0.03, num_steps=7, seed=4)
    found = training(block, examples)
    initial = torch.randn(1, 4, 3, 3, generator=torch.Generator().manual_seed(4)).double() / math.sqrt(4 * 9)
    torch.testing.assert_close(found.initial_weight, initial)
    weight = initial.clone().requires_grad_()
    optimizer = torch.optim.Adam([weight], lr=0.03)
    losses = []
    for _ in range(7):
        loss = objective(block, examples, weight, negative_weight)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    losses.append(objective(block, examples, weight, negative_weight).item())
    torch.testing.assert_close(found.weight, weight.detach())
    assert found.losses == pytest.approx(losses)
    assert losses[-1] < losses[0]


def test_silhouettes_are_masks_laid_over_the_filters_map(block):
    """8×8 images, a layer of stride 2: a 4×4 map, each cell the mean of 2×2 pixels."""
    mask = torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    examples = make_filter_examples(block, images(1, 0), mask)
    expected = functional.avg_pool2d(mask, 2)
    torch.testing.assert_close(examples.silhouettes, expected)
    assert torch.equal(make_filter_examples(block, images(2, 0)).silhouettes, torch.ones(2, 4, 4, dtype=torch.float64))
    assert examples.negatives.shape == (0, 4, 8, 8)
    assert torch.equal(examples.positives, block.inputs(images(1, 0)))


def test_the_map_takes_the_silhouettes_shape(block):
    mask = torch.zeros(1, 8, 8)
    mask[:, :4, 2:6] = 1
    examples = make_filter_examples(block, images(1, 3), mask)
    found = ClassFilterTraining(0.0, learning_rate=0.1, num_steps=150)(block, examples)
    before, after = (
        filter_maps(block, examples.positives, weight)[0, 0].sigmoid()
        for weight in (found.initial_weight, found.weight)
    )
    assert (after - examples.silhouettes[0]).abs().mean() < 0.2 * (before - examples.silhouettes[0]).abs().mean()


def test_a_positive_weight_of_negatives_lowers_the_activation_on_them(block):
    examples = make_filter_examples(block, images(2, 1), None, images(4, 2))
    active = {
        weight: activations(block, examples, ClassFilterTraining(weight, num_steps=100)(block, examples).weight)
        for weight in (0.0, 0.005, 0.05)
    }
    negatives = [on_negatives for _, on_negatives in active.values()]
    assert negatives[0] > negatives[1] > negatives[2]
    assert negatives[2] < 0.8 * negatives[0]
    assert all(on_positives > on_negatives for on_positives, on_negatives in active.values())


def test_the_grown_network_has_the_map_that_was_trained(block):
    examples = make_filter_examples(block, images(2, 1), None, images(4, 2))
    found = ClassFilterTraining(0.01, num_steps=20)(block, examples)
    grown = grow_classes(block.network, LAYER).double().eval()
    with torch.no_grad():
        grown.new_logits[0].filter.weight.copy_(found.weight)
    expected = filter_maps(block, examples.negatives, found.weight).mean((1, 2, 3))
    torch.testing.assert_close(grown(images(4, 2))[:, 3], expected)


def test_the_same_seed_gives_the_same_filter_and_nothing_is_written_to_the_network(block):
    examples = make_filter_examples(block, images(1, 1), None, images(2, 2))
    before = {name: tensor.clone() for name, tensor in block.network.state_dict().items()}
    first, again, other = (ClassFilterTraining(seed=seed, num_steps=5)(block, examples) for seed in (1, 1, 2))
    assert torch.equal(first.weight, again.weight)
    assert not torch.equal(first.weight, other.weight)
    assert all(torch.equal(tensor, before[name]) for name, tensor in block.network.state_dict().items())
    assert all(parameter.grad is None for parameter in block.network.parameters())


def test_gradients_are_taken_also_where_the_caller_takes_none(block):
    with torch.no_grad():
        examples = make_filter_examples(block, images(1, 1))
        found = ClassFilterTraining(0.0, num_steps=3)(block, examples)
    assert found.losses[-1] < found.losses[0]
    assert not found.weight.requires_grad


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"negative_weight": -0.01}, "negative_weight must be at least 0, got -0.01"),
        ({"negative_weight": float("nan")}, "got nan"),
        ({"learning_rate": 0.0}, "learning_rate must be positive, got 0.0"),
        ({"num_steps": 0}, "num_steps must be at least 1, got 0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(UserError, match=message):
        ClassFilterTraining(**settings)


def test_examples_that_do_not_do(block):
    with pytest.raises(UserError, match=r"negative_weight is 0.01, but there are no negative examples"):
        ClassFilterTraining(0.01)(block, make_filter_examples(block, images(1, 0)))
    with pytest.raises(UserError, match="at least one image of the new class, got none"):
        make_filter_examples(block, images(0, 0))
    with pytest.raises(UserError, match="2 images of the new class need as many masks, got 1"):
        make_filter_examples(block, images(2, 0), torch.ones(1, 8, 8))
    masks = torch.ones(2, 8, 8)
    masks[1] = 0
    with pytest.raises(UserError, match="the silhouette in image 1 of the new class is empty"):
        make_filter_examples(block, images(2, 0), masks)
    broken = FilterExamples(*(tensor / 0 for tensor in make_filter_examples(block, images(1, 0), None, images(1, 1))))
    with pytest.raises(UserError, match="reads on positives is not finite"):
        ClassFilterTraining()(block, broken)
    linear = LayerBlock(nn.Sequential(nn.Flatten(), nn.Linear(192, 4)), "1")
    with pytest.raises(UserError, match=r"a silhouette needs a filter with a map.*'1' is a linear layer"):
        make_filter_examples(linear, images(1, 0))
