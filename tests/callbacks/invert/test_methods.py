"""The methods that a layer allows."""

import pytest
from torch import nn

from editable.callbacks.invert.methods import METHODS, chosen_methods
from editable.errors import UserError
from editable.rewriting import LayerBlock


@pytest.mark.parametrize("layer", ["0", "7"])
def test_methods_of_the_fourier_domain_are_refused_where_there_is_no_full_size_kernel(network: nn.Module, layer: str):
    with pytest.raises(UserError, match=f"'{layer}' is no convolution of stride 1 .* leave the methods of the Fourier"):
        chosen_methods(["fourier_cut"], LayerBlock(network, layer))


def test_what_is_asked_for_is_taken_in_its_order(network: nn.Module):
    block = LayerBlock(network, "2")
    assert chosen_methods(None, block) == list(METHODS)
    asked = ["fourier_cut", "closed_form_pixel"]
    assert chosen_methods(asked, block) == asked


def test_of_a_linear_layer_one_memory_is_looked_at(network: nn.Module):
    expected = ["closed_form_pixel", "transpose_pixel", "pseudo_inverse_pixel"]
    assert chosen_methods(None, LayerBlock(network, "7")) == expected
