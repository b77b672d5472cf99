"""Exemplars by both routes."""

import pytest
import torch

from editable.errors import UserError
from editable.models import cifar_resnet
from editable.rewriting.keys.exemplars import exemplars_from_features, exemplars_from_images
from editable.rewriting.memory.block import LayerBlock


@pytest.fixture
def block():
    torch.manual_seed(0)
    return LayerBlock(cifar_resnet(width=2, layers=(1, 1, 1, 1)).double(), "layer2.0.conv2")


@pytest.fixture
def images():
    return torch.randn(3, 3, 16, 16, dtype=torch.float64)


def test_images_route(block, images):
    manipulated = images.clone()
    manipulated[:, :, :8] = 0
    mask = torch.zeros(3, 16, 16)
    mask[:, :8] = 1
    exemplars = exemplars_from_images(block, images, manipulated, mask)
    assert torch.equal(exemplars.inputs, block.inputs(manipulated))
    assert torch.equal(exemplars.target_inputs, block.inputs(images))


def test_a_mask_over_all_gives_the_variants_features(block, images):
    variants = torch.randn(3, 3, 16, 16, dtype=torch.float64)
    exemplars = exemplars_from_features(block, images, variants, torch.ones(3, 16, 16))
    torch.testing.assert_close(exemplars.inputs, block.inputs(variants), rtol=0, atol=1e-15)


def test_features_are_transplanted_by_area(block, images):
    """The map is 8×8: a mask of the first three rows of 16 covers the first cells whole and the second half."""
    variant = torch.randn(1, 3, 16, 16, dtype=torch.float64)
    mask = torch.zeros(3, 16, 16)
    mask[:, :3] = 1
    exemplars = exemplars_from_features(block, images, variant, mask)
    own, other = block.inputs(images), block.inputs(variant)
    torch.testing.assert_close(exemplars.inputs[:, :, 0], other[:, :, 0].expand(3, -1, -1))
    torch.testing.assert_close(exemplars.inputs[:, :, 1], (own[:, :, 1] + other[:, :, 1]) / 2)
    assert torch.equal(exemplars.inputs[:, :, 2:], own[:, :, 2:])
    assert torch.equal(exemplars.target_inputs, own)


def test_shapes_that_do_not_fit(block, images):
    with pytest.raises(UserError, match=r"must be images of one shape .*, got \[3, 3, 16, 16\] and \[2, 3, 16, 16\]"):
        exemplars_from_images(block, images, images[:2], torch.ones(3, 16, 16))
    with pytest.raises(UserError, match=r"masks of these images must be \[3, 16, 16\], got \[3, 8, 8\]"):
        exemplars_from_images(block, images, images, torch.ones(3, 8, 8))


def test_features_of_a_linear_layer_have_no_positions(block, images):
    with pytest.raises(UserError, match="'fc' is a linear layer: take the images route"):
        exemplars_from_features(LayerBlock(block.network, "fc"), images, images, torch.ones(3, 16, 16))
