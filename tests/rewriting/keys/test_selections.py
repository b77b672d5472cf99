"""Marked parts of generated images, as features of a layer."""

import pytest
import torch

from editable.errors import UserError
from editable.rewriting.keys.selections import Selection, select
from editable.rewriting.memory.block import LayerBlock
from editable.rewriting.memory.memory import make_memory
from tests.rewriting.generator_rules import FIRST, parts_of, planted, spot, with_concept


def test_features_are_those_of_the_generator():
    network = planted()
    block, memory, _ = parts_of(network)
    latents = with_concept(0, 3)
    selected = select(block, memory, Selection(latents, spot(FIRST, 3)), "context")
    network.eval()
    with torch.no_grad():
        read = network.relu0(network.unflatten(network.fc(latents.double())))
        values = network.relu(network.bn(network.conv(read)))
        images = network(latents.double())
    torch.testing.assert_close(selected.inputs, read)
    torch.testing.assert_close(selected.values, values)
    torch.testing.assert_close(selected.images, images)
    torch.testing.assert_close(selected.keys, read.flatten(2))
    torch.testing.assert_close(selected.value_masks, spot(FIRST, 3).double())


@pytest.mark.parametrize(
    ("latents", "masks", "message"),
    [
        (torch.zeros(2, 5), spot(FIRST, 2), "latent vectors of length 4, got shape \\[5\\]"),
        (
            torch.zeros(2, 4),
            torch.ones(2, 8, 8),
            r"masks of the context must be as large .* \[2, 6, 6\], got \[2, 8, 8",
        ),
        (torch.zeros(2, 4), torch.stack([spot(FIRST)[0], torch.zeros(6, 6)]), "image 1 of the context .* is empty"),
        (torch.zeros(2, 4), spot(FIRST, 3), "a mask for each, got 2 and 3"),
        (torch.zeros(0, 4), torch.zeros(0, 6, 6), "at least one latent vector"),
    ],
)
def test_unfit_selections(latents: torch.Tensor, masks: torch.Tensor, message: str):
    block, memory, _ = parts_of(planted())
    with pytest.raises(UserError, match=message):
        select(block, memory, Selection(latents, masks), "context")


def test_a_linear_layer_has_no_positions():
    block = LayerBlock(planted(), "fc")
    memory = make_memory(tuple(block.weight.shape), None)
    with pytest.raises(UserError, match="'fc' is a linear layer"):
        select(block, memory, Selection(with_concept(0, 1), spot(FIRST)), "context")
