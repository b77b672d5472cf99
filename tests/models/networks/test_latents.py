"""Latent vectors with numbers, and generators called with them."""

import pytest
import torch
from torch import nn

from editable.errors import UserError
from editable.models import Generator, NormalLatents, default_latents, generate


def test_a_seed_and_a_number_name_a_vector():
    latents = NormalLatents(5)
    drawn = latents(100, seed=3)
    assert drawn.shape == (100, 5)
    for number in (1, 3, 16, 99):
        assert torch.equal(latents(number, seed=3), drawn[:number])
    assert torch.equal(NormalLatents(5)(100, seed=3), drawn)
    assert not torch.equal(latents(100, seed=4), drawn)


def test_vectors_are_standard_normal_and_the_global_generator_is_left_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    drawn = NormalLatents(20)(2000, seed=0)
    assert torch.equal(torch.rand(3), expected)
    assert drawn.mean().abs() < 0.02  # its standard error is 0.005
    torch.testing.assert_close(drawn.T @ drawn / 2000, torch.eye(20), atol=0.12, rtol=0)


def test_the_default_is_of_the_generators_own_length():
    assert default_latents(Generator(latent_size=9, width=2)).latent_size == 9
    with pytest.raises(UserError, match="Linear has no attribute latent_size"):
        default_latents(nn.Linear(2, 3))


def test_generate_uses_running_statistics_and_the_networks_own_type():
    torch.manual_seed(0)
    network = Generator(latent_size=4, width=2).double()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    images = generate(network, NormalLatents(4)(3, 0))
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert images.dtype == torch.float64
    torch.testing.assert_close(images[1:2], generate(network, NormalLatents(4)(3, 0)[1:2]))


def test_mistakes_end_in_a_sentence():
    with pytest.raises(UserError, match="latent_size must be at least 1, got 0"):
        NormalLatents(0)
    with pytest.raises(UserError, match="num must be at least 1, got 0"):
        NormalLatents(2)(0, 0)
    with pytest.raises(UserError, match=r"Generator takes latent vectors of length 4, got shape \[5\]"):
        generate(Generator(latent_size=4, width=2), torch.zeros(2, 5))
    with pytest.raises(UserError, match=r"Sequential cannot take latent vectors of shape \[5\]"):
        generate(nn.Sequential(nn.Linear(4, 4)), torch.zeros(2, 5))
    with pytest.raises(UserError, match=r"must return images \[2, C, H, W\] .* got \[2, 3\]"):
        generate(nn.Linear(4, 3), torch.zeros(2, 4))
