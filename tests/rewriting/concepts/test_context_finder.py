"""Context matching as a finder: against a second implementation in numpy, and mistakes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from editable.errors import UserError
from editable.rewriting.concepts.context_finder import ContextFinder

SIZE = 8
RED = (230, 20, 30)


@pytest.fixture
def masks(tmp_path: Path) -> str:
    """Two exemplars, noise with a red square where the mask is."""
    entries, random = [], np.random.default_rng(0)
    for number, (left, top) in enumerate(((1, 2), (4, 3))):
        pixels = random.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
        pixels[top : top + 3, left : left + 3] = RED
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        entries.append({"image": f"{number}.png", "box": [left, top, left + 3, top + 3]})
    (tmp_path / "masks.json").write_text(json.dumps({"masks": entries}))
    return str(tmp_path / "masks.json")


def make_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 5, 1), nn.Flatten(), nn.Linear(5 * SIZE**2, 2)).double()


def normalise(images: Tensor) -> Tensor:
    return (images - 0.5) / 0.25


def plain_images(count: int = 12) -> Tensor:
    """Noise; the first three images have a red square."""
    images = torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    images[:3, :, 4:7, 2:5] = (torch.tensor(RED, dtype=torch.float64) / 255)[:, None, None]
    return images


def prepared(masks: str, batch_size: int = 12, **settings) -> ContextFinder:
    finder = ContextFinder(masks, "0", **{"quantile": 0.97, "epsilon": 0.0, **settings})
    images = normalise(plain_images())
    finder.prepare(make_network(), normalise, DataLoader(TensorDataset(images), batch_size))
    return finder


def responses(masks: str) -> np.ndarray:
    """The keys of a layer 1×1 at the images are their pixels: C⁻¹ times the mean key of the mask, made unit length."""
    keys = []
    for entry in json.loads(Path(masks).read_text())["masks"]:
        left, top, right, bottom = entry["box"]
        pixels = np.asarray(Image.open(Path(masks).parent / entry["image"]), dtype=np.float64) / 255
        keys.append(((pixels - 0.5) / 0.25)[top:bottom, left:right].reshape(-1, 3))
    keys = np.concatenate(keys)
    all_pixels = normalise(plain_images()).permute(0, 2, 3, 1).numpy()
    flat = all_pixels.reshape(-1, 3)
    moment = flat.T @ flat / len(flat)
    # All keys of the square are the same: whitened by C^(-1/2), they have one direction, which C^(-1/2) takes back.
    direction = np.linalg.solve(moment, keys.mean(axis=0))
    return all_pixels @ (direction / np.linalg.norm(direction))


@pytest.mark.parametrize("batch_size", [12, 5])
def test_masks_are_where_the_response_is_in_the_upper_quantile_of_all(masks: str, batch_size: int):
    finder, expected = prepared(masks, batch_size), responses(masks)
    threshold = np.quantile(expected, 0.97)
    found = finder.find(plain_images(), ["any"] * 12).numpy()
    sure = np.abs(expected - threshold) > 1e-3 * np.abs(expected).max()
    assert np.array_equal(found[sure], (expected >= threshold)[sure].astype(float))
    assert sure.mean() > 0.95
    assert found[:3, 4:7, 2:5].all(), "red squares are found"
    best = finder.activation(plain_images(), ["any"] * 12).numpy()
    assert best == pytest.approx(expected.max(axis=(1, 2)), rel=1e-6)
    assert best[:3].min() >= threshold


def test_it_is_the_same_in_any_batch_and_again(masks: str):
    finder = prepared(masks)
    whole = finder.find(plain_images(), ["any"] * 12)
    one_by_one = torch.cat([finder.find(image[None], ["any"]) for image in plain_images()])
    assert torch.equal(whole, one_by_one)
    assert torch.equal(whole, prepared(masks).find(plain_images(), ["any"] * 12))
    assert finder.description == "context matching at 0"


def test_progress_counts_all_images_of_both_passes(masks: str):
    counted: list[int] = []
    finder = ContextFinder(masks, "0")
    finder.prepare(make_network(), normalise, [normalise(plain_images())], counted.append)
    assert sum(counted) == 2 * 12


def test_mistakes(masks: str, tmp_path: Path):
    for settings, message in (
        ({"quantile": 1.5}, r"quantile must be in \[0, 1\], got 1.5"),
        ({"rank": 0}, "rank must be at least 1, got 0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"masks": "nowhere.json"}, "nowhere.json do not exist"),
    ):
        with pytest.raises(UserError, match=message):
            ContextFinder(**{"masks": masks, "layer": "0", **settings})
    with pytest.raises(UserError, match="call prepare before find"):
        ContextFinder(masks, "0").find(plain_images(), ["any"] * 12)
    images = [normalise(plain_images())]
    with pytest.raises(UserError, match="'2' is a linear layer, whose keys have no place in an image"):
        ContextFinder(masks, "2").prepare(make_network(), normalise, images)
    with pytest.raises(UserError, match="conv7"):
        ContextFinder(masks, "conv7").prepare(make_network(), normalise, images)
    with pytest.raises(UserError, match="image"):
        ContextFinder(masks, "0").prepare(make_network(), normalise)
    Image.fromarray(np.zeros((SIZE, SIZE + 1, 3), dtype=np.uint8)).save(tmp_path / "1.png")
    with pytest.raises(UserError, match=r"the exemplar 1\.png is 8×9 pixels .* the first is 8×8: set image_size"):
        ContextFinder(masks, "0").prepare(make_network(), normalise, images)
