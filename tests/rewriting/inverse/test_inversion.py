"""Values traced back to images, features and keys, against closed forms and loops."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from editable.errors import UserError
from editable.rewriting.inverse.inversion import invert_features, invert_images, num_open_dimensions, reconstruct_keys
from editable.rewriting.inverse.reconstruction import Reconstruction, ReconstructionSettings
from editable.rewriting.memory.block import LayerBlock
from tests.rewriting.problems import Untouched, conv_network, random

SHAPE = (3, 6, 6)


def conv_block() -> LayerBlock:
    return LayerBlock(conv_network(), "second")


def images(count: int, seed: int = 7) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, *SHAPE, generator=generator, dtype=torch.float64)


def values_of(block: LayerBlock, some: Tensor, weight: Tensor | None = None) -> Tensor:
    with torch.no_grad():
        return block.values(block.inputs(some), weight)


def equal(first: Reconstruction, second: Reconstruction) -> bool:
    pairs = ((first.found, second.found), (first.losses, second.losses), (first.final_losses, second.final_losses))
    return all(torch.equal(*pair) for pair in pairs)


def variation(image: Tensor) -> Tensor:
    """Sum of absolute differences of neighbouring pixels, one by one."""
    total = torch.zeros(()).double()
    channels, height, width = image.shape
    for c, y, x in itertools.product(range(channels), range(height), range(width)):
        if y + 1 < height:
            total = total + (image[c, y + 1, x] - image[c, y, x]).abs()
        if x + 1 < width:
            total = total + (image[c, y, x + 1] - image[c, y, x]).abs()
    return total


def test_image_inversion_lowers_its_loss_at_least_tenfold_and_leaves_the_network_alone():
    block = conv_block()
    values = values_of(block, images(2))
    with Untouched(block.network):
        found = invert_images(block, values, SHAPE, ReconstructionSettings(num_steps=150, learning_rate=0.05))
    assert (found.loss_ratios >= 10).all()
    assert found.found.shape == (2, *SHAPE)
    assert found.found.min() >= 0
    assert found.found.max() <= 1
    errors = (values_of(block, found.found) - values).flatten(1).square().sum(1) / values.flatten(1).square().sum(1)
    torch.testing.assert_close(errors, found.losses[-1])


def test_images_of_an_invertible_layer_are_recovered():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 3, 1, bias=False)).double()
    with torch.no_grad():
        network[0].weight.copy_(torch.linalg.qr(random(3, 3, seed=0)).Q[..., None, None])
    block, true = LayerBlock(network, "0"), images(2)
    settings = ReconstructionSettings(num_steps=300, learning_rate=0.05)
    found = invert_images(block, values_of(block, true * 2 - 1), SHAPE, settings, normalise=lambda some: some * 2 - 1)
    torch.testing.assert_close(found.found, true, rtol=0, atol=1e-3)


def test_starts_are_uniform_noise_over_the_range_of_pixels():
    starts: list[Tensor] = []

    def watch(some: Tensor) -> dict[str, Tensor]:
        starts.append(some.clone())
        return {"mean": some.flatten(1).mean(1)}

    block = conv_block()
    settings = ReconstructionSettings(num_steps=1, restarts=20, seed=3)
    values = values_of(block, images(2))
    invert_images(block, values, SHAPE, settings, pixel_range=(-2.0, 4.0), watch=watch)
    assert starts[0].shape == (40, *SHAPE)
    assert starts[0].min() >= -2
    assert starts[0].max() <= 4
    assert float(starts[0].mean()) == pytest.approx(1, abs=0.2)
    assert float(starts[0].std()) == pytest.approx(6 / 12**0.5, rel=0.05)


def test_a_fixed_seed_gives_the_same_arrays_and_another_one_others():
    block, few = conv_block(), {"num_steps": 5, "restarts": 2}
    values = values_of(block, images(2))
    for invert, shape in ((invert_images, SHAPE), (invert_features, (4, 6, 6))):
        runs = [invert(block, values, shape, ReconstructionSettings(**few, seed=seed)) for seed in (1, 1, 2)]
        assert equal(runs[0], runs[1])
        assert not equal(runs[0], runs[2])
    matrix, columns = random(6, 4, seed=0), random(6, 3, seed=1)
    runs = [reconstruct_keys(matrix, columns, ReconstructionSettings(**few, seed=seed)) for seed in (1, 1, 2)]
    assert equal(runs[0], runs[1])
    assert not equal(runs[0], runs[2])


def test_more_restarts_begin_with_the_same_starts():
    block = conv_block()
    values = values_of(block, images(1))
    settings = [ReconstructionSettings(num_steps=20, restarts=restarts) for restarts in (2, 4)]
    few, many = (invert_images(block, values, SHAPE, some) for some in settings)
    torch.testing.assert_close(many.final_losses[:2], few.final_losses)
    assert (many.losses[-1] <= few.losses[-1] + 1e-12).all()


def test_total_variation_is_that_of_a_loop():
    """One update is rate · g/(|g| + ε), g the gradient of the whole objective with the loop's variation."""
    block, alpha, rate = conv_block(), 0.7, 0.01
    values = values_of(block, images(1))
    settings = ReconstructionSettings(num_steps=1, restarts=1, learning_rate=rate, seed=5)
    seen: list[Tensor] = []

    def watch(some: Tensor) -> dict[str, Tensor]:
        seen.append(some.clone())
        return {"none": some[:, 0, 0, 0]}

    found = invert_images(block, values, SHAPE, settings, total_variation=alpha, watch=watch)
    start = seen[0].requires_grad_()
    error = (block.values(block.inputs(start)) - values).square().sum() / values.square().sum()
    (gradient,) = torch.autograd.grad(error + alpha * variation(start[0]) / 36, [start])
    expected = (start - rate * gradient / (gradient.abs() + 1e-8)).clamp(0, 1)
    torch.testing.assert_close(found.found, expected.detach())
    (plain,) = torch.autograd.grad((block.values(block.inputs(start)) - values).square().sum(), [start])
    assert not torch.equal(plain.sign(), gradient.sign())


def test_total_variation_makes_images_smoother():
    block = conv_block()
    values = values_of(block, images(1))
    settings = ReconstructionSettings(num_steps=100, learning_rate=0.05)
    rough, smooth = (invert_images(block, values, SHAPE, settings, total_variation=a).found[0] for a in (0, 1.0))
    assert variation(smooth) < 0.7 * variation(rough)


def test_features_of_an_invertible_linear_layer_are_its_input():
    network = nn.Sequential(nn.Linear(6, 6)).double()
    with torch.no_grad():
        network[0].weight.copy_(1.5 * torch.linalg.qr(random(6, 6, seed=0)).Q)
    block, true = LayerBlock(network, "0"), random(3, 6, seed=1)
    settings = ReconstructionSettings(num_steps=400)
    with Untouched(network):
        found = invert_features(block, values_of(block, true), (6,), settings)
    torch.testing.assert_close(found.found, true, rtol=0, atol=1e-5)


def test_features_by_another_weight_are_those_that_it_makes_the_values_of():
    network = nn.Sequential(nn.Linear(6, 6, bias=False)).double()
    block, weight = LayerBlock(network, "0"), torch.linalg.qr(random(6, 6, seed=0)).Q
    values = random(3, 6, seed=1)
    found = invert_features(block, values, (6,), ReconstructionSettings(num_steps=400), weight)
    torch.testing.assert_close(found.found, values @ weight, rtol=0, atol=1e-5)  # W⁻¹ = Wᵀ


def test_feature_inversion_lowers_its_loss_at_least_tenfold_within_bounds():
    block = conv_block()
    values = values_of(block, images(2))
    found = invert_features(block, values, (4, 6, 6), ReconstructionSettings(), bounds=(0.0, None))
    assert (found.loss_ratios >= 10).all()
    assert found.found.min() >= 0


@pytest.mark.parametrize("rows", [4, 9], ids=["square", "tall"])
def test_keys_of_a_memory_without_dependent_columns_are_recovered(rows: int):
    matrix = torch.linalg.qr(random(9, 4, seed=0)).Q[:rows]
    matrix = matrix if rows > 4 else torch.linalg.qr(matrix).Q * 3
    keys = 50 * random(4, 3, seed=1)  # of any length: starts are as long as the values need
    found = reconstruct_keys(matrix, matrix @ keys, ReconstructionSettings(num_steps=500))
    torch.testing.assert_close(found.found, keys.T, rtol=1e-4, atol=1e-3)
    assert (found.loss_ratios >= 10).all()
    assert num_open_dimensions(matrix) == 0


def test_what_a_memory_does_not_see_of_a_key_stays_as_it_starts():
    """W = [A 0]: gradients along the last two entries of a key are zero."""
    matrix = torch.cat([2 * torch.linalg.qr(random(3, 3, seed=0)).Q, torch.zeros(3, 2).double()], dim=1)
    values = matrix @ random(5, 2, seed=1)
    starts: list[Tensor] = []

    def watch(keys: Tensor) -> dict[str, Tensor]:
        starts.append(keys.clone())
        return {"none": keys[:, 0]}

    found = reconstruct_keys(matrix, values, ReconstructionSettings(num_steps=400, restarts=1), watch)
    assert num_open_dimensions(matrix) == 2
    torch.testing.assert_close(found.found @ matrix.T, values.T, rtol=0, atol=1e-4)
    scales = (values.norm(dim=0) / matrix.norm())[:, None]
    torch.testing.assert_close(found.found[:, 3:], scales * starts[0][:, 3:])
    assert (starts[0][:, 3:].abs() > 0).all()


def test_a_zero_value_leads_back_to_keys_that_recall_nothing():
    matrix = random(6, 4, seed=0)
    found = reconstruct_keys(matrix, torch.zeros(6, 1).double(), ReconstructionSettings(num_steps=400))
    assert (found.found.norm() < 1e-3).all()


BLOCK_VALUES = torch.zeros(1, 4, 6, 6, dtype=torch.float64)


@pytest.mark.parametrize(
    ("values", "shape", "options", "message"),
    [
        (BLOCK_VALUES, (3, 8, 8), {}, r"no inputs \[3, 8, 8\] have values \[4, 6, 6\]: theirs are \[4, 8, 8\]"),
        (BLOCK_VALUES, (1, 6, 6), {}, r"inputs \[1, 6, 6\] are not what values are given for"),
        (BLOCK_VALUES, SHAPE, {"total_variation": -1}, "total_variation must be at least 0, got -1"),
        (BLOCK_VALUES, SHAPE, {"pixel_range": (1.0, 1.0)}, r"pixel_range must be the least and the greatest"),
    ],
)
def test_images_that_cannot_have_such_values_are_refused(values, shape, options, message):
    with pytest.raises(UserError, match=message):
        invert_images(conv_block(), values, shape, ReconstructionSettings(num_steps=1), **options)


def test_a_layer_that_is_not_there_and_zero_restarts_are_refused():
    with pytest.raises(UserError, match="no layer"):
        LayerBlock(conv_network(), "fourth")
    with pytest.raises(UserError, match="restarts must be at least 1, got 0"):
        invert_images(conv_block(), BLOCK_VALUES, SHAPE, ReconstructionSettings(restarts=0))


def test_features_that_cannot_have_such_values_are_refused():
    with pytest.raises(UserError, match=r"no inputs \[4, 5, 5\] have values \[4, 6, 6\]"):
        invert_features(conv_block(), BLOCK_VALUES, (4, 5, 5), ReconstructionSettings(num_steps=1))


@pytest.mark.parametrize(
    ("matrix", "values", "message"),
    [
        (random(6, 4, seed=0), random(5, 1, seed=1), r"recalls values \[value_size, S\], got \[6, 4\] and \[5, 1\]"),
        (random(6, 4, seed=0), random(6, seed=1), r"got \[6, 4\] and \[6\]"),
        (torch.zeros(6, 4).double(), random(6, 1, seed=1), "zero, or not finite"),
        (random(6, 4, seed=0) / 0, random(6, 1, seed=1), "zero, or not finite"),
        (random(6, 4, seed=0), random(6, 1, seed=1) / 0, "must be finite"),
    ],
)
def test_memories_that_recall_no_such_values_are_refused(matrix, values, message):
    with pytest.raises(UserError, match=message):
        reconstruct_keys(matrix, values, ReconstructionSettings(num_steps=1))
