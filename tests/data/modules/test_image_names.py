"""Names of test images: of files, also when kept in memory or held out, and of arrays."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import Subset

from editable.data import DigitsDataModule, ImageFolderDataModule
from editable.data.modules.image_names import image_names


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for split, count in (("train", 10), ("test", 2)):
        for name in ("b", "a"):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = np.full((4, 4, 3), number, dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / name / f"{number}.png")
    return tmp_path


@pytest.mark.parametrize("cache", [False, True])
def test_files_are_known_by_class_and_name(root: Path, cache: bool):
    data = ImageFolderDataModule(str(root), cache=cache, num_workers=0)
    data.setup("test")
    assert image_names(data.test_dataset) == ["a/0.png", "a/1.png", "b/0.png", "b/1.png"]
    assert image_names(Subset(data.test_dataset, [3, 0])) == ["b/1.png", "a/0.png"]


def test_held_out_images_keep_their_names(root: Path):
    (root / "test").rename(root / "unused")
    data = ImageFolderDataModule(str(root), num_workers=0, validation_fraction=0.2, mean=[0.0] * 3, std=[1.0] * 3)
    data.setup("test")
    names = image_names(data.test_dataset)
    assert len(names) == 4
    for name, (image, label) in zip(names, (data.test_dataset[i] for i in range(4)), strict=True):
        assert name == f"{'ab'[label]}/{round(255 * image.mean().item())}.png"


def test_arrays_are_known_by_position():
    data = DigitsDataModule(num_workers=0)
    data.setup("test")
    assert image_names(Subset(data.test_dataset, [12])) == ["000012"]
