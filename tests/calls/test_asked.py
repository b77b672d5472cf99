"""Images and labels as people have them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from editable.calls.asked import image_batch, label_batch
from editable.errors import UserError

LEVELS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
EXPECTED = torch.tensor(LEVELS.astype(np.float32) / 255).permute(2, 0, 1)
TO_TENSOR = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])


def file(folder: Path) -> Path:
    Image.fromarray(LEVELS).save(folder / "some.png")
    return folder / "some.png"


KINDS: dict[str, Callable[[Path], Any]] = {
    "a path": file,
    "text": lambda folder: str(file(folder)),
    "a PIL image": lambda folder: Image.fromarray(LEVELS),
    "an array": lambda folder: LEVELS,
    "levels": lambda folder: torch.tensor(LEVELS).permute(2, 0, 1),
    "what the network gets": lambda folder: EXPECTED,
    "an array of it": lambda folder: EXPECTED.numpy(),
    "half precision": lambda folder: EXPECTED.double(),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("several", [False, True])
def test_all_kinds_of_images(kind: str, several: bool, tmp_path: Path):
    given = KINDS[kind](tmp_path)
    made = image_batch([given, given] if several else given, TO_TENSOR)
    torch.testing.assert_close(made, torch.stack([EXPECTED] * (1 + several)), rtol=0, atol=1e-7)


def test_one_stack():
    assert image_batch(torch.zeros(4, 1, 2, 3), None).shape == (4, 1, 2, 3)
    assert image_batch(np.zeros((4, 6, 9, 3), dtype=np.uint8), TO_TENSOR).shape == (4, 3, 6, 9)


def test_transforms_of_tensors_alone():
    """Such as those of our own data modules."""
    transform = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.0] * 3, [1.0] * 3)])

    def of_tensors(pixels: Tensor) -> Tensor:
        if not isinstance(pixels, Tensor):
            raise TypeError("tensors alone")
        return transform(pixels)

    torch.testing.assert_close(image_batch(LEVELS, of_tensors)[0], EXPECTED, rtol=0, atol=1e-6)


def test_turned_and_transparent_pictures_are_seen_as_a_viewer_shows_them():
    turned = Image.fromarray(LEVELS)
    turned.getexif()[0x0112] = 3  # upside down
    found = image_batch(turned, TO_TENSOR)[0]
    torch.testing.assert_close(found, EXPECTED.flip(-1, -2), rtol=0, atol=1e-6)
    clear = Image.fromarray(np.dstack([LEVELS, np.zeros(LEVELS.shape[:2], dtype=np.uint8)]), "RGBA")
    assert image_batch(clear, TO_TENSOR).eq(1).all(), "white"


@pytest.mark.parametrize(
    ("images", "transform", "message"),
    [
        ([], None, "there is no image"),
        ("nowhere.png", TO_TENSOR, "nowhere.png cannot be read"),
        (LEVELS, None, "give transform"),
        ([torch.zeros(1, 2, 3), torch.zeros(1, 3, 3)], None, r"one size.* got 1×2×3 and 1×3×3"),
        (torch.zeros(3, 4), None, r"\[channels, height, width\], got a tensor of shape \[3, 4\]"),
        (torch.zeros(3, 4, 5, dtype=torch.int64), None, r"an image is a path.* got torch.int64 \[3, 4, 5\]"),
        (7, TO_TENSOR, "an image is a path, .* got int"),
        (LEVELS, lambda picture: 3, r"transform must give .* got int"),
        (LEVELS, v2.PILToTensor(), r"transform must give .* got torch.uint8 \[3, 6, 9\]"),
        (Image.new("F", (3, 3)), TO_TENSOR, "given cannot be read .its levels are floats"),
    ],
)
def test_what_is_no_image(images: Any, transform: Any, message: str):
    with pytest.raises(UserError, match=message):
        image_batch(images, transform)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ("cat", [0, 0]),
        (["truck", "2"], [1, 2]),
        ([2, np.int64(1)], [2, 1]),
        (torch.tensor([1, 0]), [1, 0]),
        (np.array([1, 1]), [1, 1]),
        (2, [2, 2]),
    ],
)
def test_labels_by_name_and_number(labels: Any, expected: list[int]):
    assert label_batch(labels, 2, ["cat", "truck", "dog"]).tolist() == expected


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        ("cat", None, "nobody knows the names of the classes"),
        (["cat"], ["cat", "dog"], "there are 1 labels for 2 images"),
        ("cta", ["cat", "dog"], "'cta' is none of the 2 classes: near names are cat"),
        (1.5, ["cat"], "a label is the name or the number of a class, got 1.5"),
        ([True, 1], ["cat"], "got True"),
        (None, ["cat"], "got None"),
    ],
)
def test_what_is_no_label(labels: Any, classes: list[str] | None, message: str):
    with pytest.raises(UserError, match=message):
        label_batch(labels, 2, classes)
