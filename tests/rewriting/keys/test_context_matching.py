"""Context matching against plain loops and numpy's quantiles, on convolutions and linear layers."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from editable.errors import UserError
from editable.rewriting.keys.context_matching import match_context
from editable.rewriting.memory.block import LayerBlock
from editable.rewriting.memory.memory import make_memory


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def make_network() -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 5, 3, stride=2), nn.ReLU(), nn.Linear(3, 2))
    return nn.Sequential(*layers).double()


def parts(architecture: str = "pixel", layer: str = "2"):
    block = LayerBlock(make_network(), layer)
    return block, make_memory(tuple(block.weight.shape), block.geometry, architecture)


def layer_inputs(images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return make_network()[:2](images)


def unit(columns: torch.Tensor) -> torch.Tensor:
    return torch.linalg.qr(columns).Q


@pytest.mark.parametrize("batch_size", [1, 4, 9])
def test_heat_of_pixels_is_the_product_with_each(batch_size: int):
    images, direction = random(9, 2, 7, 8), unit(random(4, 1, seed=1))
    found = match_context(*parts(), direction, images.split(batch_size))
    inputs = layer_inputs(images)
    assert found.heat_maps.shape == (9, 7, 8)
    for n, y, x in itertools.product(range(9), range(7), range(8)):
        expected = sum(direction[c, 0] * inputs[n, c, y, x] for c in range(4))
        assert found.heat_maps[n, y, x].item() == pytest.approx(expected.item(), rel=1e-10, abs=1e-12)


def test_heat_of_patches_is_a_convolution_with_the_direction():
    images, direction = random(3, 2, 7, 8), unit(random(36, 1, seed=1))
    found = match_context(*parts("patch"), direction, [images])
    expected = functional.conv2d(layer_inputs(images), direction.view(1, 4, 3, 3), stride=2)[:, 0]
    torch.testing.assert_close(found.heat_maps, expected, rtol=1e-10, atol=1e-12)


def test_several_directions_respond_as_the_nearest_to_the_concepts_key():
    """d maximises ⟨d, k*⟩ over the unit vectors in the span: the projection, whatever the basis."""
    images, directions, key = random(3, 2, 7, 8), unit(random(4, 2, seed=1)), random(4, 1, seed=2)
    nearest = directions @ torch.from_numpy(np.linalg.lstsq(directions.numpy(), key.numpy(), rcond=None)[0])
    alone = match_context(*parts(), nearest / nearest.norm(), [images])
    turned = directions @ unit(random(2, 2, seed=3))
    for basis in (directions, turned):
        found = match_context(*parts(), basis, [images], key=key)
        torch.testing.assert_close(found.heat_maps, alone.heat_maps, rtol=1e-9, atol=1e-11)
    of_two = match_context(*parts(), directions, [images], key=torch.cat([key - 1, torch.ones_like(key)], dim=1))
    torch.testing.assert_close(of_two.heat_maps, alone.heat_maps, rtol=1e-9, atol=1e-11)


def test_the_key_gives_a_single_direction_its_sign():
    images, direction = random(3, 2, 7, 8), unit(random(4, 1, seed=1))
    found = match_context(*parts(), direction, [images], key=-3 * direction)
    torch.testing.assert_close(found.heat_maps, -match_context(*parts(), direction, [images]).heat_maps)


def test_several_directions_without_a_key_respond_by_their_positive_projections():
    images, directions = random(2, 2, 7, 8), unit(random(4, 2, seed=1))
    found = match_context(*parts(), directions, [images])
    inputs = layer_inputs(images)
    for n, y, x in itertools.product(range(2), range(7), range(8)):
        squares = [max(0.0, float(directions[:, i] @ inputs[n, :, y, x])) ** 2 for i in range(2)]
        assert found.heat_maps[n, y, x].item() == pytest.approx(sum(squares) ** 0.5, rel=1e-10, abs=1e-12)


def test_a_linear_layer_has_a_row_of_responses():
    network = nn.Sequential(nn.Linear(3, 2)).double()
    block = LayerBlock(network, "0")
    memory = make_memory((2, 3), None)
    direction = unit(random(3, 1))
    for inputs in (random(5, 3), random(5, 6, 3)):
        found = match_context(block, memory, direction, inputs.split(2), (0.5,))
        torch.testing.assert_close(found.heat_maps, (inputs @ direction).reshape(5, 1, -1))
        with pytest.raises(UserError, match="no place in an image"):
            found.upsampled()


@pytest.mark.parametrize("batch_size", [1, 3, 20])
def test_quantiles_are_those_of_all_values(batch_size: int):
    images, direction = random(20, 2, 7, 8), unit(random(4, 1, seed=1))
    quantiles = (0.0, 0.5, 0.9, 0.99, 0.999, 1.0)
    found = match_context(*parts(), direction, images.split(batch_size), quantiles)
    values = np.concatenate([(direction[:, 0] @ image.flatten(1)).numpy() for image in layer_inputs(images)])
    assert list(found.thresholds) == list(quantiles)
    for quantile in quantiles:
        assert found.thresholds[quantile] == pytest.approx(np.quantile(values, quantile), rel=1e-10)


def test_the_quantiles_of_the_literature_are_the_default():
    found = match_context(*parts(), unit(random(4, 1)), [random(2, 2, 7, 8)])
    assert list(found.thresholds) == [0.99, 0.999]


def test_ranking_by_the_largest_response():
    images, direction = random(12, 2, 7, 8), unit(random(4, 1, seed=1))
    images[7] = images[2]
    found = match_context(*parts(), direction, images.split(5))
    maxima = [max((direction[:, 0] @ image.flatten(1)).tolist()) for image in layer_inputs(images)]
    torch.testing.assert_close(found.maxima, torch.tensor(maxima, dtype=torch.float64))
    assert found.ranking.tolist() == sorted(range(12), key=lambda index: (-round(maxima[index], 9), index))


def test_a_planted_concept_is_found():
    """A patch of one colour in three of ten images: first in the ranking, and the mask lies on it."""
    network = nn.Sequential(nn.Conv2d(3, 2, 1))
    block = LayerBlock(network, "0")
    memory = make_memory(tuple(block.weight.shape), block.geometry)
    images = 0.1 * random(10, 3, 16, 16).float()
    colour = torch.tensor([1.0, 2.0, -1.0])
    for index in (1, 4, 8):
        images[index, :, 4:8, 8:12] += colour[:, None, None]
    quantile = 1 - 3 * 16 / (10 * 256)  # all but as many pixels as the concept has
    found = match_context(block, memory, (colour / colour.norm())[:, None], images.split(4), (quantile,))
    assert set(found.ranking[:3].tolist()) == {1, 4, 8}
    mask = torch.zeros(16, 16)
    mask[4:8, 8:12] = 1
    for found_mask in found.masks(quantile, [1, 4, 8]):
        assert torch.equal(found_mask, mask)
    assert not found.masks(quantile, [0, 2, 3]).any()


def interpolated(maps: torch.Tensor, y: int, x: int, size: tuple[int, int]) -> torch.Tensor:
    """The value of maps [n, h, w] at the centre of a pixel, linear between the centres of their cells, [n]."""
    result = torch.zeros(len(maps), dtype=maps.dtype)
    places = [
        min(max((pixel + 0.5) * cells / length - 0.5, 0), cells - 1)
        for pixel, cells, length in zip((y, x), maps.shape[1:], size, strict=True)
    ]
    for i, j in itertools.product(range(maps.shape[1]), range(maps.shape[2])):
        result += max(0, 1 - abs(places[0] - i)) * max(0, 1 - abs(places[1] - j)) * maps[:, i, j]
    return result


def test_the_largest_response_is_in_the_mask_of_the_largest_quantile():
    found = match_context(*parts(), unit(random(4, 1)), [random(3, 2, 7, 8)], (1.0,))
    assert found.masks(1.0).sum() == 1
    assert found.masks(1.0)[found.ranking[0]].sum() == 1


def test_equal_images_stay_in_order():
    found = match_context(*parts(), unit(random(4, 1)), [random(1, 2, 7, 8).expand(300, -1, -1, -1)])
    assert found.ranking.tolist() == list(range(300))


def test_maps_are_upsampled_to_the_images():
    images = random(4, 2, 7, 9)
    found = match_context(*parts("patch"), unit(random(36, 1)), [images], (0.5,))
    assert found.heat_maps.shape == (4, 3, 4)
    assert found.upsampled().shape == (4, 7, 9)
    for y, x in itertools.product(range(7), range(9)):
        torch.testing.assert_close(found.upsampled()[:, y, x], interpolated(found.heat_maps, y, x, (7, 9)))
    torch.testing.assert_close(found.upsampled([2]), found.upsampled()[2:3])
    torch.testing.assert_close(found.upsampled(found.ranking[:2]), found.upsampled()[found.ranking[:2]])
    mask = found.masks(0.5)
    assert mask.dtype == torch.float64
    assert torch.equal(mask.bool(), found.upsampled() >= found.thresholds[0.5])
    with pytest.raises(UserError, match=r"quantile 0.9, only for 0\.5"):
        found.masks(0.9)


def test_a_data_loader_with_labels_and_its_progress():
    images, done = random(7, 2, 7, 8), []
    loader = DataLoader(TensorDataset(images, torch.arange(7)), batch_size=3)
    found = match_context(*parts(), unit(random(4, 1)), loader, progress=done.append)
    assert done == [3, 3, 1]
    assert not found.heat_maps.requires_grad


def test_unfit_input():
    block, memory = parts()
    direction, images = unit(random(4, 1)), random(3, 2, 7, 8)
    for wrong in (direction[:3], direction[:, 0], direction[:, :0]):
        with pytest.raises(UserError, match=r"directions must be columns \[4, r\]"):
            match_context(block, memory, wrong, [images])
    with pytest.raises(UserError, match="directions must be finite"):
        match_context(block, memory, direction / 0, [images])
    with pytest.raises(UserError, match=r"concept's key must be columns \[4, r\]"):
        match_context(block, memory, direction, [images], key=direction[:3])
    with pytest.raises(UserError, match="do not respond to the concept's key"):
        match_context(block, memory, direction, [images], key=torch.zeros(4, 1))
    with pytest.raises(UserError, match=r"quantiles must be in \[0, 1\], got \[99\]"):
        match_context(block, memory, direction, [images], (99,))
    with pytest.raises(UserError, match="no image was given to match the context of '2'"):
        match_context(block, memory, direction, [])
    with pytest.raises(UserError, match=r"images of one size, got .*\(7, 9\)"):
        match_context(block, memory, direction, [images, random(1, 2, 7, 9)])
    images[1, 0, 3, 3] = float("nan")
    with pytest.raises(UserError, match="keys of '2' must be finite, but those of image 4"):
        match_context(block, memory, direction, [random(3, 2, 7, 8), images])
