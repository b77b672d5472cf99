"""Second moments collected from a network: all positions against a plain loop, samples without bias, and their cost."""

import itertools
import weakref
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from editable.errors import UserError
from editable.rewriting.memory import moment_collection
from editable.rewriting.memory.block import LayerBlock
from editable.rewriting.memory.inverse_moment import InverseMoment, Regularisation
from editable.rewriting.memory.memory import make_memory
from editable.rewriting.memory.moment_collection import collect_second_moment, second_moment_cost
from tests.warned import no_warning, one_warning


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def make_network() -> nn.Module:
    torch.manual_seed(0)
    layers = (
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 5, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(5, 3),
    )
    return nn.Sequential(*layers).double()


def parts(architecture: str = "pixel", layer: str = "3"):
    block = LayerBlock(make_network(), layer)
    return block, make_memory(tuple(block.weight.shape), block.geometry, architecture)


def layer_inputs(images: torch.Tensor) -> torch.Tensor:
    """What layer 3 reads, from the network's first layers in evaluation mode."""
    with torch.no_grad():
        return make_network().eval()[:3](images)


class KeysAsGiven:
    """Stands for a layer and its memory where images [N, c, P] are the keys."""

    layer = "layer"

    def __init__(self, key_size: int) -> None:
        self.key_size, self.weight = key_size, torch.zeros(1)

    def inputs(self, images: torch.Tensor) -> torch.Tensor:
        return images

    def keys(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs


def collect_given(keys: torch.Tensor, **settings):
    stand_in = KeysAsGiven(keys.shape[1])
    return collect_second_moment(stand_in, stand_in, settings.pop("batches", [keys]), **settings)


@pytest.mark.parametrize("batch_size", [1, 3, 10])
@pytest.mark.parametrize("architecture", ["pixel", "patch"])
def test_equals_a_loop_over_all_positions(architecture: str, batch_size: int):
    images = random(10, 2, 6, 5)
    moment = collect_second_moment(*parts(architecture), images.split(batch_size))
    inputs = layer_inputs(images)
    if architecture == "pixel":
        keys = [inputs[n, :, y, x] for n, y, x in itertools.product(range(10), range(6), range(5))]
    else:
        padded = functional.pad(inputs, (1, 1, 1, 1))
        positions = itertools.product(range(10), range(0, 6, 2), range(0, 5, 2))
        keys = [padded[n, :, y : y + 3, x : x + 3].flatten() for n, y, x in positions]
    expected = sum(torch.outer(key, key) for key in keys) / len(keys)
    assert moment.count == len(keys)
    torch.testing.assert_close(moment.mean, expected, rtol=1e-12, atol=1e-14)


def test_a_linear_layer():
    images = random(7, 2, 6, 6)
    moment = collect_second_moment(*parts(layer="7"), images.split(3))
    with torch.no_grad():
        keys = make_network().eval()[:7](images)
    torch.testing.assert_close(moment.mean, keys.T @ keys / 7, rtol=1e-12, atol=1e-14)


def test_a_data_loader_with_labels_and_its_progress():
    images, done = random(7, 2, 6, 5), []
    loader = DataLoader(TensorDataset(images, torch.arange(7)), batch_size=3)
    moment = collect_second_moment(*parts(), loader, progress=done.append)
    assert done == [3, 3, 1]
    torch.testing.assert_close(moment.mean, collect_second_moment(*parts(), [images]).mean, rtol=1e-12, atol=1e-14)


def test_leaves_the_network_alone():
    block, memory = parts()
    block.network.train()
    before = {name: tensor.clone() for name, tensor in block.network.state_dict().items()}
    moment = collect_second_moment(block, memory, [random(4, 2, 6, 5)])
    assert block.network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in block.network.state_dict().items())
    assert not moment.mean.requires_grad


def test_only_what_leads_to_the_layer_is_run():
    block, memory = parts()
    run = []
    for module in block.network:
        module.register_forward_pre_hook(lambda module, args: run.append(module))
    collect_second_moment(block, memory, [random(2, 2, 6, 5)])
    behind = list(block.network[3:])
    assert behind
    assert not any(module in behind for module in run)


def test_memory_does_not_grow_with_the_number_of_images():
    alive: list[weakref.ref] = []
    most = 0

    def batches() -> Iterator[torch.Tensor]:
        nonlocal most
        for seed in range(50):
            most = max(most, sum(reference() is not None for reference in alive))
            batch = random(2, 3, 4, seed=seed)
            alive.append(weakref.ref(batch))
            yield batch

    stand_in = KeysAsGiven(3)
    moment = collect_second_moment(stand_in, stand_in, batches())
    assert moment.count == 50 * 2 * 4
    assert most <= 2  # the one that is looked at, and the generator's own


def sampled(keys: torch.Tensor, positions: int, seed: int, batch_size: int) -> torch.Tensor:
    return collect_given(keys, batches=keys.split(batch_size), positions=positions, seed=seed).total


def test_samples_depend_on_the_seed_and_not_on_batches():
    keys = random(12, 3, 20)
    first = sampled(keys, 4, seed=0, batch_size=12)
    for batch_size in (1, 5):
        torch.testing.assert_close(sampled(keys, 4, 0, batch_size), first, rtol=1e-12, atol=1e-12)
    assert torch.equal(sampled(keys, 4, 0, 12), first)
    assert not torch.allclose(sampled(keys, 4, 1, 12), first, rtol=1e-3)


@pytest.mark.parametrize("positions", [20, 21, 1000])
def test_a_sample_of_all_positions_is_all(positions: int):
    keys = random(4, 3, 20)
    assert torch.equal(sampled(keys, positions, 0, 2), collect_given(keys, batches=keys.split(2)).total)


def test_positions_are_drawn_uniformly_and_without_replacement():
    """Keys that are unit vectors, one for each position: the diagonal of the sum counts how often each was drawn.

    Of n images each has 3 of 10 positions drawn, so a count is binomial with p = 0.3; five standard deviations hold for
    all ten counts with a probability above 1 − 10 · 6e-7.
    """
    num_images = 2000
    keys = torch.eye(10, dtype=torch.float64).expand(num_images, -1, -1)
    counts = sampled(keys, 3, seed=3, batch_size=500) * 3 / 10  # the weight is taken back
    assert torch.equal(counts, counts.diag().diag())
    torch.testing.assert_close(counts.trace().item(), 3.0 * num_images)
    deviation = (num_images * 0.3 * 0.7) ** 0.5
    assert ((counts.diag() - 0.3 * num_images).abs() < 5 * deviation).all()
    with pytest.warns(UserWarning, match=r"3 keys .* fewer than the 10 entries"):
        once = sampled(keys[:1], 3, seed=3, batch_size=1).diag() * 3 / 10
    torch.testing.assert_close(once.sort().values, torch.tensor([0.0] * 7 + [1.0] * 3, dtype=torch.float64))


def test_a_sample_has_the_expectation_of_all_positions():
    """The mean over 400 seeds lies within five standard errors of the second moment of all positions.

    The variance of an entry, of a sample of m of P without replacement, is (1 − m/P) S²/m for each image (Cochran 1977,
    theorem 2.2); images have different sizes here, and so different weights.
    """
    batches = [random(2, 3, 8, seed=1), random(3, 3, 20, seed=2), random(1, 3, 2, seed=3)]
    num_keys, m, num_seeds = 2 * 8 + 3 * 20 + 2, 4, 400
    means, variance = [], torch.zeros(3, 3, dtype=torch.float64)
    for seed in range(num_seeds):
        moment = collect_given(batches[0], batches=batches, positions=m, seed=seed)
        assert moment.count == num_keys
        means.append(moment.mean)
    expected = torch.zeros(3, 3, dtype=torch.float64)
    for image in (image for batch in batches for image in batch):
        products = torch.einsum("ip,jp->pij", image, image)
        expected += products.sum(dim=0) / num_keys
        if len(products) > m:
            variance += (len(products) / num_keys) ** 2 * (1 - m / len(products)) * products.var(dim=0) / m
    error = (torch.stack(means).mean(dim=0) - expected).abs()
    assert (error < 5 * (variance / num_seeds).sqrt()).all()
    torch.testing.assert_close(torch.stack(means).var(dim=0), variance, rtol=0.35, atol=0)


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_the_scale_of_activations_does_not_matter_to_directions(factor: float):
    keys, key = random(20, 4, 5), random(4, 1)
    one, other = (
        InverseMoment(collect_given(scale * keys), Regularisation(epsilon=0.1)).solve(key) for scale in (1.0, factor)
    )
    torch.testing.assert_close(other / other.norm(), one / one.norm(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("batches", [[], [torch.zeros(0, 3, 4)]])
def test_no_image(batches: list[torch.Tensor]):
    with pytest.raises(UserError, match=r"no image was given .* 'layer'"):
        collect_given(torch.zeros(1, 3, 4), batches=batches)


def test_unfit_settings_and_images():
    with pytest.raises(UserError, match="positions must be at least 1, got 0"):
        collect_given(torch.zeros(1, 3, 4), positions=0)
    with pytest.raises(UserError, match="a batch must be images"):
        collect_given(torch.zeros(1, 3, 4), batches=[{"image": 1}])


def test_features_that_are_not_finite():
    block, memory = parts()
    images = random(3, 2, 6, 5)
    images[1, 0, 2, 2] = float("nan")
    with pytest.raises(UserError, match=r"keys must be finite.*1 of 3 inputs.*number 1"):
        collect_second_moment(block, memory, [images])


def test_an_always_silent_layer():
    with pytest.raises(UserError, match="nothing but zeros"):
        InverseMoment(collect_given(torch.zeros(2, 3, 4)))


def test_cost_by_formula():
    cost = second_moment_cost(key_size=100, num_images=50, positions=196)
    assert cost.moment_bytes == cost.inverse_bytes == 80_000
    assert cost.operations == 2 * 100**2 * 50 * 196
    assert cost.inverse_operations == 9 * 100**3
    assert cost.warning is None
    # Beyond a block of rows only the upper half is computed: blocks of 256 rows, from the diagonal on.
    cost = second_moment_cost(key_size=600, num_images=1, positions=1)
    assert cost.operations == 2 * (256 * 600 + 256 * 344 + 88 * 88)


def test_a_large_cost_is_told_with_a_way_out():
    warning = second_moment_cost(key_size=4608, num_images=5000, positions=784).warning
    assert warning is not None
    # 18 blocks of 256 rows: 4608² · (1 + 1/18) operations for each key, and 9c³; divided by 4e10 a second.
    assert "3,920,000 keys of size 4608 takes 8.8e+13 operations" in warning
    assert "its inverse 8.8e+11, about 37 minutes on two cores" in warning
    # 10 of 784 positions: 1.12e12 operations, and the 8.8e11 of the inverse all the same.
    assert "positions=10, a random sample of each image, would take 50 seconds" in warning
    assert second_moment_cost(key_size=4608, num_images=5000, positions=10).warning is None


def test_a_large_inverse_is_told_without_a_way_out():
    warning = second_moment_cost(key_size=20_000, num_images=5000, positions=40).warning
    assert warning is not None
    assert "GiB" in warning
    assert "positions=" not in warning


def test_too_few_keys_are_told():
    warning = second_moment_cost(key_size=500, num_images=10, positions=49).warning
    assert warning is not None
    assert "490 keys (10 images, 49 of each) are fewer than the 500 entries" in warning
    assert second_moment_cost(key_size=490, num_images=10, positions=49).warning is None
    with pytest.raises(UserError, match="num_images must be at least 1, got 0"):
        second_moment_cost(10, 0, 1)


def test_collecting_warns_beforehand_where_the_number_of_batches_is_known(monkeypatch: pytest.MonkeyPatch):
    keys = random(2, 3, 20)
    asked = []

    def cost(*numbers: int) -> SimpleNamespace:
        asked.append(numbers)
        return SimpleNamespace(warning="costly")

    monkeypatch.setattr(moment_collection, "second_moment_cost", cost)
    with one_warning("costly"):
        collect_given(keys, batches=[keys] * 10, positions=4)
    assert asked == [(3, 20, 4)]
    with no_warning():
        collect_given(keys, batches=(keys for _ in range(10)))
