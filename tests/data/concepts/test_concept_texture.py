"""Textures read and placed: cuts and tiles pixel by pixel, covering and boxes by their sizes, and mistakes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from editable.data.concepts.concept_texture import place_texture, read_texture
from editable.errors import UserError


@pytest.fixture
def stored(tmp_path: Path) -> tuple[Path, np.ndarray]:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "texture.png")
    return tmp_path / "texture.png", pixels


def test_a_texture_is_its_file_or_a_box_of_it(stored: tuple[Path, np.ndarray]):
    path, pixels = stored
    whole = read_texture(path)
    assert whole.dtype == torch.float32
    assert np.array_equal((whole * 255).round().byte().permute(1, 2, 0).numpy(), pixels)
    box = read_texture(path, [2, 1, 7, 4])
    assert np.array_equal((box * 255).round().byte().permute(1, 2, 0).numpy(), pixels[1:4, 2:7])


def test_its_shorter_side_is_resized(stored: tuple[Path, np.ndarray]):
    assert read_texture(stored[0], size=12).shape == (3, 12, 18)
    assert read_texture(stored[0], [0, 0, 3, 6], size=2).shape == (3, 4, 2)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("size", [(3, 4), (20, 5), (6, 23)])
def test_a_texture_at_its_own_scale_is_one_run_of_its_rows_and_columns(size: tuple[int, int], seed: int):
    texture = torch.arange(54.0).view(1, 6, 9)
    placed = place_texture(texture, torch.ones(size), "texture", seed)
    assert placed.shape == (1, *size)
    row, column = divmod(int(placed[0, 0, 0]), 9)
    for y in range(size[0]):
        for x in range(size[1]):
            assert placed[0, y, x] == texture[0, (row + y) % 6, (column + x) % 9]
    if size == (3, 4):
        assert row <= 6 - 3, "a texture that is large enough is cut, not tiled"
        assert column <= 9 - 4
    assert torch.equal(placed, place_texture(texture, torch.zeros(size), "texture", seed))


def test_seeds_draw_different_parts():
    texture = torch.rand(3, 40, 40)
    parts = [place_texture(texture, torch.ones(8, 8), "texture", seed) for seed in range(6)]
    assert any(not torch.equal(part, parts[0]) for part in parts)


def test_an_image_covers_all_and_its_centre_is_kept():
    columns = torch.arange(16.0).expand(1, 8, 16) / 16
    placed = place_texture(columns, torch.zeros(8, 8), "image", 0)
    assert torch.equal(placed, columns[:, :, 4:12])
    assert place_texture(columns, torch.zeros(30, 20), "image", 0).shape == (1, 30, 20)
    assert place_texture(torch.full((1, 3, 7), 0.5), torch.zeros(20, 31), "image", 0).eq(0.5).all()


def test_an_image_in_the_mask_fills_the_box_around_it_and_nothing_else():
    mask = torch.zeros(10, 12)
    mask[2, 3], mask[6, 8] = 0.2, 1
    texture = torch.rand(3, 5, 6)
    placed = place_texture(texture, mask, "mask", 0)
    assert torch.equal(placed[:, 2:7, 3:9], texture)
    placed[:, 2:7, 3:9] = 0
    assert not placed.any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 0}, "texture_size must be at least 1, got 0"),
        ({"box": [0, 0, 10, 6]}, r"texture_box is \[0, 0, 10, 6\].* 9 pixels wide and 6 high"),
        ({"box": [0, 0, 4]}, "texture_box is"),
        ({"box": [4, 0, 4, 6]}, "texture_box is"),
        ({"box": [-1, 0, 4, 6]}, "texture_box is"),
        ({"box": [0, 0, 4, 7]}, "texture_box is"),
    ],
)
def test_mistakes(stored: tuple[Path, np.ndarray], settings: dict, message: str):
    with pytest.raises(UserError, match=message):
        read_texture(stored[0], **settings)


def test_a_missing_texture(tmp_path: Path):
    with pytest.raises(UserError, match=r"nowhere\.png does not exist: expected an image file"):
        read_texture(tmp_path / "nowhere.png")
