"""A small vision transformer: its size by a formula, and that it can be edited like any other network."""

import pytest
import torch

from editable.editing import GD, Editor
from editable.errors import UserError
from editable.models import SplitNetwork, cifar_vit


def test_number_of_parameters():
    width, layers, patch, classes = 12, 3, 4, 7
    network = cifar_vit(classes, width, layers, 2, 8, patch)
    attention = 4 * width * width + 4 * width
    perceptron = 2 * (2 * width * width) + 3 * width
    block = attention + perceptron + 2 * 2 * width
    patches = 3 * patch * patch * width + width
    positions = (1 + (8 // patch) ** 2) * width + width  # of the patches and the class token, and that token
    head = width * classes + classes
    assert (
        sum(param.numel() for param in network.parameters()) == patches + positions + layers * block + 2 * width + head
    )


def test_the_last_block_is_edited():
    torch.manual_seed(0)
    network = cifar_vit(5, 8, 2, 2, 8).eval()
    torch.nn.init.normal_(network.heads[0].weight)
    split, images = SplitNetwork(network, ["encoder_layer_1"]), torch.randn(1, 3, 8, 8)
    features = split.prefix(images)
    torch.testing.assert_close(split.suffix(features, split.params), network(images))
    label = network(images).argsort(dim=1)[:, -2]
    result = Editor(GD(0.1), max_steps=50)(split.suffix, split.params, features, label)
    assert bool(result.success)
    assert split.suffix(features, result.params).argmax() == label


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"width": 10, "num_heads": 4}, "num_heads must divide 10, got 4"),
        ({"image_size": 30}, "patch_size must divide 30, got 4"),
        ({"num_layers": 0}, "num_layers must be at least 1, got 0"),
    ],
)
def test_sizes_that_do_not_fit(sizes, message):
    with pytest.raises(UserError, match=message):
        cifar_vit(**sizes)
