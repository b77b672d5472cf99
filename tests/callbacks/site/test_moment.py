"""Options of a second moment: each reaches the images that it is taken over, and mistakes name the option."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from editable.callbacks.site.moment import MomentImages, MomentSettings, _inputs_identity
from editable.errors import UserError
from editable.rewriting import LayerBlock, Regularisation, collect_second_moment, make_memory
from tests.callbacks.site.constant_images import make_data
from tests.warned import no_warning


def images(settings: MomentSettings, data, choosing=None) -> MomentImages:
    trainer = SimpleNamespace(datamodule=data, global_rank=0, world_size=1)
    return settings.images(trainer, choosing)


class Scaled(nn.Module):
    """Multiplies by a factor that is no parameter."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.factor * x


def collected(moment: MomentImages, network: nn.Module, layer: str = "0"):
    block = LayerBlock(network, layer)
    memory = make_memory(tuple(block.weight.shape), block.geometry, "pixel")
    return moment.second_moment(block, memory, "pixel", lambda images: None)


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()).eval()


def test_split(root):
    data = make_data(root, validation_fraction=0.2)
    choosing = TensorDataset(torch.zeros(2, 3, 8, 8))
    assert images(MomentSettings("test"), data, choosing).dataset is choosing  # not the half that is reported
    assert len(images(MomentSettings("test"), data).dataset) == 8
    assert len(images(MomentSettings("val"), data, choosing).dataset) == 4
    assert len(images(MomentSettings("train"), data, choosing).dataset) == 16
    assert len(images(MomentSettings(), data, choosing).dataset) == 16  # training images by default


def test_no_validation_images(root):
    data = make_data(root, validation_fraction=0.0)
    with pytest.raises(UserError, match="validation"):
        images(MomentSettings("val"), data)


def test_validation_images_that_are_reported(root, tmp_path):
    (tmp_path / "train").symlink_to(root / "train")
    data = make_data(tmp_path, validation_fraction=0.2)
    choosing = TensorDataset(torch.zeros(2, 3, 8, 8))
    with pytest.raises(UserError, match=r"moment\.split=val must not take: set it to train, or to test"):
        images(MomentSettings("val"), data, choosing)
    assert images(MomentSettings("test"), data, choosing).dataset is choosing


def test_number_of_images_and_seed(root):
    data = make_data(root)
    drawn = images(MomentSettings("test", num_images=5, seed=3), data).drawn.indices
    assert len(drawn) == len(set(drawn)) == 5
    assert drawn == sorted(drawn)
    assert images(MomentSettings("test", num_images=5, seed=3), data).drawn.indices == drawn
    assert images(MomentSettings("test", num_images=5, seed=4), data).drawn.indices != drawn
    assert images(MomentSettings("test", num_images=100), data).drawn.indices == list(range(8))


def test_batches_are_those_of_the_data(root):
    assert images(MomentSettings("test"), make_data(root, batch_size=3)).batch_size == 3


def test_the_moment_of_all_positions_is_that_of_the_pixels(root, network):
    moment = images(MomentSettings("test"), make_data(root))
    pixels = torch.cat([image.double().flatten(1).T for image, _ in moment.dataset])
    found = collected(moment, network)
    assert found.count == len(pixels) == 8 * 64
    torch.testing.assert_close(found.mean, pixels.T @ pixels / len(pixels))


def test_number_of_positions(root, network):
    """As many keys are drawn of each image by the seed; the sum over them stands for that over all positions."""
    data, choosing = make_data(root), TensorDataset(torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
    block = LayerBlock(network, "0")
    memory = make_memory(tuple(block.weight.shape), block.geometry, "pixel")
    found = collected(images(MomentSettings("test", positions=7, seed=2), data, choosing), network).mean
    expected = collect_second_moment(block, memory, [choosing.tensors[0]], 7, 2).mean
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(collected(images(MomentSettings("test"), data, choosing), network).mean, expected)


def test_cache(root, network, tmp_path: Path):
    assert images(MomentSettings("test"), make_data(root)).cache is None
    settings = MomentSettings("test", cache=str(tmp_path / "moments"))
    first = collected(images(settings, make_data(root)), network)
    (kept,) = (tmp_path / "moments").iterdir()
    written = kept.stat().st_mtime_ns
    torch.testing.assert_close(collected(images(settings, make_data(root)), network).mean, first.mean)
    assert kept.stat().st_mtime_ns == written


def test_no_moment_of_other_images_is_used(network, tmp_path: Path):
    """One of ninety images is another one, or the batches are of another size: the moment is collected anew."""
    choosing = torch.randn(90, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    moment = MomentImages(TensorDataset(choosing), 90, None, 0, 10, tmp_path)
    first = collected(moment, network)
    other = choosing.clone()
    other[41] += 1
    with pytest.warns(UserWarning, match="was made with images '.*' in place of"):
        found = collected(replace(moment, dataset=TensorDataset(other)), network)
    expected = other.double().permute(0, 2, 3, 1).reshape(-1, 3)
    torch.testing.assert_close(found.mean, expected.T @ expected / len(expected))
    assert not torch.equal(found.mean, first.mean)
    with pytest.warns(UserWarning, match="was made with batch_size '10' in place of '30'"):
        collected(replace(moment, dataset=TensorDataset(other), batch_size=30), network)


def test_no_moment_of_another_network_of_the_same_weights_is_used(tmp_path: Path):
    choosing = torch.randn(20, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    moment = MomentImages(TensorDataset(choosing), 20, None, 0, 10, tmp_path)
    first = nn.Conv2d(3, 4, 1)

    def network(activation: nn.Module) -> nn.Module:
        return nn.Sequential(first, activation, nn.Conv2d(4, 2, 1)).eval()

    collected(moment, network(nn.ReLU()), "2")
    with pytest.warns(UserWarning, match="was made with inputs '.*' in place of"):
        found = collected(moment, network(nn.Tanh()), "2")
    keys = first(choosing).detach().double().tanh().permute(0, 2, 3, 1).reshape(-1, 4)
    torch.testing.assert_close(found.mean, keys.T @ keys / len(keys), rtol=1e-5, atol=1e-6)
    with no_warning():
        again = collected(moment, network(nn.Tanh()), "2")
    assert torch.equal(again.mean, found.mean)


def test_what_a_layer_reads_is_known_but_for_rounding():
    """Other devices and other sizes of batches round otherwise, and values in another order are others."""
    images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))

    def identity(factor: float = 1.0, order: tuple[int, ...] = (0, 1, 2)) -> str:
        block = LayerBlock(nn.Sequential(Scaled(factor), nn.Conv2d(3, 4, 3, padding=1)).eval(), "1")
        return _inputs_identity(block, images[:, list(order)])

    assert identity() == identity(1 + 1e-6) == identity(1 - 1e-6)
    assert identity() != identity(1.01)
    assert identity() != identity(order=(1, 0, 2))
    assert identity().split()[0] == identity(order=(1, 0, 2)).split()[0] == f"{images.norm():.4g}"


def test_regularisation():
    assert MomentSettings().regularised == Regularisation(epsilon=1e-4)
    assert MomentSettings(regularisation=Regularisation(floor=0.1)).regularised == Regularisation(floor=0.1)


MISTAKES = {
    "split": ({"split": "trial"}, "moment.split is 'trial', but must be one of train, val, test"),
    "number": ({"num_images": 0}, "moment.num_images must be at least 1, got 0"),
    "positions": ({"positions": 0}, "moment.positions must be at least 1, got 0"),
    "seed": ({"seed": -1}, "moment.seed must be at least 0, got -1"),
}


@pytest.mark.parametrize(("options", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_name_the_option(options, message):
    with pytest.raises(UserError, match=message):
        MomentSettings(**options)
