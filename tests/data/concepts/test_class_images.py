"""Images of one class are found, drawn by seed, and read with or without masks."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from editable.data.concepts.class_images import ClassImages
from editable.data.images.frame import Frame
from editable.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    (tmp_path / "more").mkdir()
    for name in ("b.png", "a.jpg", "more/c.png", "d.png"):
        Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(tmp_path / name)
    return tmp_path


def test_all_images_are_found_in_order(folder: Path):
    (folder / "notes.txt").write_text("no image")
    with pytest.warns(UserWarning, match=r"1 files .* are left out, such as notes\.txt"):
        images = ClassImages(str(folder))
    assert images.names == ["a.jpg", "b.png", "d.png", "more/c.png"]
    assert len(images) == 4
    stored = torch.from_numpy(np.asarray(Image.open(folder / "b.png")).copy()).permute(2, 0, 1)
    read, masks = images.read([1, 3], Frame())
    torch.testing.assert_close(read[0], stored.float() / 255)
    assert torch.equal(masks, torch.ones(2, 8, 8))
    assert images.read([0], Frame(4, 6))[0].shape == (1, 3, 4, 4)


def test_draws_are_by_seed(folder: Path):
    images = ClassImages(str(folder))
    assert images.draw(None, 5) == [0, 1, 2, 3]
    assert images.draw(3, 5) == images.draw(3, 5)
    assert images.draw(2, 5) == images.draw(3, 5)[:2]
    assert len({tuple(images.draw(2, seed)) for seed in range(20)}) > 3
    assert sorted(images.draw(4, 1)) == [0, 1, 2, 3]


def test_with_masks_only_those_that_have_one(folder: Path):
    (folder / "masks.json").write_text(json.dumps({"masks": [{"image": "more/c.png", "box": [0, 0, 8, 2]}]}))
    images = ClassImages(str(folder), str(folder / "masks.json"))
    assert images.names == ["more/c.png"]
    _, masks = images.read([0], Frame())
    expected = torch.zeros(1, 8, 8)
    expected[:, :2] = 1
    torch.testing.assert_close(masks, expected)


def test_mistakes(folder: Path, tmp_path: Path):
    with pytest.raises(UserError, match="The folder nowhere does not exist"):
        ClassImages("nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty holds no image"):
        ClassImages(str(tmp_path / "empty"))
    images = ClassImages(str(folder))
    with pytest.raises(UserError, match="5 images of the class are wanted, but there are only 4"):
        images.draw(5, 0)
    with pytest.raises(UserError, match="count must be at least 1, got 0"):
        images.draw(0, 0)
    Image.fromarray(np.zeros((4, 8, 3), dtype=np.uint8)).save(folder / "d.png")
    with pytest.raises(UserError, match=r"d.png is 4×8 pixels .* where the first is 8×8: set image_size"):
        images.read([1, 2], Frame())
