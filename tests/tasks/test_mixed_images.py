"""Mixtures are what the two papers define, and train as the two labels in proportion."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from editable.errors import UserError
from editable.tasks import ClassificationTask
from editable.tasks.mixed_images import MixedImages


def batch(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(6, 3, 8, 8, generator=generator, dtype=dtype), torch.tensor([0, 1, 2, 2, 1, 0])


def test_mixup_is_a_weighted_mean_of_two():
    images, _ = batch()
    mixed, parts = MixedImages(mixup_alpha=0.5)(images)
    torch.testing.assert_close(parts.sum(1), torch.ones(6, dtype=torch.float64))
    assert ((parts > 0).sum(1) <= 2).all()
    torch.testing.assert_close(mixed, torch.einsum("nm,mchw->nchw", parts, images), rtol=1e-6, atol=1e-6)


def test_cutmix_takes_pixels_of_two_by_their_area():
    images, _ = batch()
    mixed, parts = MixedImages(cutmix_alpha=1.0)(images)
    for position in range(6):
        same = (mixed[position] == images[position]).all(dim=0)
        assert parts[position, position].item() == pytest.approx(same.double().mean().item(), abs=1e-6)
        (other,) = (parts[position] * (torch.arange(6) != position)).nonzero().flatten().tolist() or (position,)
        assert torch.equal(mixed[position][:, ~same], images[other][:, ~same])


def test_either_is_drawn_and_a_seed_fixes_it():
    images, _ = batch()
    mix = MixedImages(0.2, 1.0)
    torch.manual_seed(3)
    first = [mix(images)[0] for _ in range(12)]
    torch.manual_seed(3)
    assert all(torch.equal(mix(images)[0], some) for some in first)
    pixels_of_both = [((some != images).any(dim=1).flatten(1).double().mean(1)) for some in first]
    assert any((part == 1).all() for part in pixels_of_both)  # every pixel of MixUp is another
    assert any(((part < 1) & (part > 0)).all() for part in pixels_of_both)


@pytest.mark.filterwarnings("ignore:You are trying to `self.log..` but the `self.trainer` reference")
def test_the_loss_is_that_of_the_labels_in_proportion():
    """λ·CE(y) + (1 − λ)·CE(y′), each smoothed: the papers' form, where ours has one target."""
    images, labels = batch(torch.float32)
    torch.manual_seed(0)
    task = ClassificationTask(nn.Sequential(nn.Flatten(), nn.Linear(192, 3)), label_smoothing=0.1, mixup_alpha=0.4)
    torch.manual_seed(1)
    loss = task.training_step((images, labels), 0)
    torch.manual_seed(1)
    mixed, parts = MixedImages(0.4)(images)
    logits = task.network(mixed)
    smooth = torch.full((6, 3), 0.1 / 3).scatter_(1, labels[:, None], 0.9 + 0.1 / 3)
    each = -(functional.log_softmax(logits, dim=1)[:, None] * smooth).sum(-1)  # of mixture n with the label of m
    torch.testing.assert_close(loss, (parts * each).sum(1).mean())


def test_labels_of_no_class_are_named_before_they_are_mixed():
    images, labels = batch(torch.float32)
    task = ClassificationTask(nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), cutmix_alpha=1.0)
    with pytest.raises(UserError, match="the data have label 2, but the network's 2 classes are 0"):
        task.training_step((images, labels), 0)


@pytest.mark.parametrize("name", ["mixup_alpha", "cutmix_alpha", "label_smoothing", "norm_weight_decay"])
def test_negative_numbers(name):
    with pytest.raises(UserError, match=name):
        ClassificationTask(nn.Linear(2, 2), **{name: -0.1})


def test_normalisation_layers_have_a_weight_decay_of_their_own():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.LayerNorm(4), nn.Linear(4, 2))
    others, norms = ClassificationTask(network, norm_weight_decay=0.0).parameter_groups()
    assert norms["weight_decay"] == 0.0
    assert {id(param) for param in norms["params"]} == {
        id(param) for layer in (network[1], network[3]) for param in layer.parameters()
    }
    assert {id(param) for param in others["params"]} == {
        id(param) for layer in (network[0], network[4]) for param in layer.parameters()
    }
