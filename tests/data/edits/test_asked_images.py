"""The images and labels of an edit: positions and files, names and numbers, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from editable.data import AskedImages, DigitsDataModule, ImageFolderDataModule
from editable.errors import UserError


@pytest.fixture
def data(tmp_path: Path) -> ImageFolderDataModule:
    """Two test images of each of the classes '7', 'cat' and 'dog', all of one colour each."""
    for label, name in enumerate(["7", "cat", "dog"]):
        folder = tmp_path / "images" / "test" / name
        folder.mkdir(parents=True)
        for number in range(2):
            write(folder / f"{number}.png", 60 * label + number)
    module = ImageFolderDataModule(str(tmp_path / "images"))
    module.setup("test")
    return module


def write(path: Path, value: int, size: int = 8) -> str:
    Image.fromarray(np.full((size, size, 3), value, dtype=np.uint8)).save(path)
    return str(path)


def test_positions_and_files_side_by_side(data: ImageFolderDataModule, tmp_path: Path) -> None:
    path = write(tmp_path / "own.png", 200)
    asked = AskedImages([3, path, "0"], ["dog", 1, "cat"], data)
    assert asked.names == ["cat/1.png", path, "7/0.png"]
    assert asked.labels.tolist() == [2, 1, 1]
    assert [int(asked[index][0].unique()) for index in range(3)] == [61, 200, 0]


def test_a_class_by_its_name_before_its_number(data: ImageFolderDataModule) -> None:
    assert AskedImages([1, 1, 1], [7, "7", 2], data).labels.tolist() == [0, 0, 2]


def test_true_labels_of_test_images(data: ImageFolderDataModule) -> None:
    assert AskedImages([0, 5, 2], None, data).labels.tolist() == [0, 2, 1]


def test_files_become_grey_where_the_data_are(tmp_path: Path) -> None:
    """By the luma of ITU-R BT.601, 0.299 R + 0.587 G + 0.114 B, to the nearest level."""
    digits = DigitsDataModule()
    digits.setup("test")
    pixels = np.zeros((8, 8, 3), dtype=np.uint8)
    pixels[..., 0] = 200
    Image.fromarray(pixels).save(tmp_path / "red.png")
    asked = AskedImages([str(tmp_path / "red.png")], [3], digits)
    assert asked[0][0].shape == (1, 8, 8)
    assert int(asked[0][0].unique()) == round(0.299 * 200)
    assert torch.equal(data_image(digits, 4), torch.as_tensor(AskedImages([4], None, digits)[0][0]))


def data_image(data: DigitsDataModule, position: int) -> torch.Tensor:
    return torch.as_tensor(data.test_dataset.images[position][0])


MISTAKES = {
    "none": ([], None, "needs at least one image"),
    "position": ([6], None, "no test image 6: positions are 0 … 5"),
    "negative": ([-1], None, "no test image -1"),
    "file": (["nowhere.png"], ["cat"], "no image at 'nowhere.png'"),
    "class": ([0], ["dgo"], r"'dgo' is none of the 3 classes of the data, and no number of one: near names are dog"),
    "number": ([0], [3], "'3' is none of the 3 classes"),
    "count": ([0, 1], ["cat"], "there are 2 images and 1 labels"),
}


@pytest.mark.parametrize(("images", "labels", "expected"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes(images: list, labels: list | None, expected: str, data: ImageFolderDataModule) -> None:
    with pytest.raises(UserError, match=expected):
        AskedImages(images, labels, data)


def test_files_that_do_not_do(data: ImageFolderDataModule, tmp_path: Path) -> None:
    large, broken = write(tmp_path / "large.png", 1, size=9), tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    with pytest.raises(UserError, match=r"large.png is \[3, 9, 9\] .* set the data module's image_size"):
        AskedImages([large], ["cat"], data)
    with pytest.raises(UserError, match=r"broken.png cannot be read"):
        AskedImages([str(broken)], ["cat"], data)
    with pytest.raises(UserError, match=r"the true label of the file .*large.png is not known"):
        AskedImages([0, large], None, data)
