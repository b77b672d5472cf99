"""Masks that belong to images by name, in the frame of the images, and mistakes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from editable.data.images.reader import ImageError
from editable.errors import UserError
from editable.rewriting.concepts.mask_finder import MaskFinder

BOXES = {"samples/cat/1.png": [1, 2, 4, 6], "samples/dog/1.png": [0, 0, 8, 8]}
"""Left, top, right, bottom, in images of 8 × 10 pixels (height × width)."""


@pytest.fixture
def masks(tmp_path: Path) -> str:
    for name in BOXES:
        (tmp_path / name).parent.mkdir(parents=True)
        Image.fromarray(np.zeros((8, 10, 3), dtype=np.uint8)).save(tmp_path / name)
    return write(tmp_path, BOXES)


def write(folder: Path, boxes: dict[str, list[int]], **frame: int) -> str:
    entries = [{"image": name, "box": box} for name, box in boxes.items()]
    (folder / "masks.json").write_text(json.dumps({**frame, "masks": entries}))
    return str(folder / "masks.json")


def box_mask(left: int, top: int, right: int, bottom: int, size: tuple[int, int] = (8, 10)) -> torch.Tensor:
    mask = torch.zeros(size)
    mask[top:bottom, left:right] = 1
    return mask


def test_a_mask_is_that_of_the_image_of_its_name_with_or_without_further_folders(masks: str):
    finder = MaskFinder(masks)
    names = ["dog/1.png", "samples/cat/1.png", "cat/1.png", "cat/2.png", "at/1.png"]
    found = finder.find(torch.rand(5, 3, 8, 10), names)
    cat, dog = (box_mask(*box) for box in BOXES.values())
    assert torch.equal(found, torch.stack([dog, cat, cat, torch.zeros(8, 10), torch.zeros(8, 10)]))
    shares = [0.8, 0.15, 0.15, 0, 0]  # 8·8 and 3·4 of 80 pixels
    assert finder.activation(torch.rand(5, 3, 8, 10), names).tolist() == pytest.approx(shares)
    assert finder.description == masks


def test_masks_come_in_the_frame_of_the_images(masks: str):
    """An image of 8 × 10, its centre cut to 8 × 8: one column is gone on each side."""
    found = MaskFinder(masks, image_size=8).find(torch.rand(1, 3, 8, 8), ["cat/1.png"])
    assert torch.equal(found[0], box_mask(0, 2, 3, 6, (8, 8)))
    doubled = MaskFinder(masks, image_size=16, resize_size=16).find(torch.rand(1, 3, 16, 16), ["cat/1.png"])
    assert torch.equal(doubled[0], box_mask(0, 4, 6, 12, (16, 16)))
    own = MaskFinder(write(Path(masks).parent, BOXES, resize=8, crop=8))
    assert torch.equal(own.find(torch.rand(1, 3, 8, 8), ["cat/1.png"])[0], box_mask(1, 2, 4, 6, (8, 8)))
    assert own.settings["image_size"] == 8


def test_images_of_another_size_are_refused(masks: str):
    with pytest.raises(
        UserError, match=r"the mask of samples/cat/1\.png is 8×10 pixels .* the images are 8×8: give the"
    ):
        MaskFinder(masks).find(torch.rand(1, 3, 8, 8), ["cat/1.png"])


def test_two_masks_of_one_image_are_refused(masks: str):
    with pytest.raises(UserError, match=r"the image 1\.png has several masks .* samples/cat/1.png and samples/dog/1"):
        MaskFinder(masks).find(torch.rand(1, 3, 8, 10), ["1.png"])


def test_a_damaged_image_is_named(masks: str):
    (Path(masks).parent / "samples/cat/1.png").write_text("no image")
    with pytest.raises(ImageError, match=r"samples/cat/1\.png cannot be read"):
        MaskFinder(masks).find(torch.rand(1, 3, 8, 10), ["cat/1.png"])


def test_missing_masks_and_images(tmp_path: Path):
    with pytest.raises(UserError, match="do not exist"):
        MaskFinder(str(tmp_path / "masks.json"))
    with pytest.raises(UserError, match=r"cat/3\.png does not exist"):
        MaskFinder(write(tmp_path, {"cat/3.png": [0, 0, 1, 1]}))
