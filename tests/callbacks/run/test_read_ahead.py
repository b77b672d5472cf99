"""Files that a command needs late are read before its first long computation."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset

from editable.callbacks.run.read_ahead import read_all, read_finders
from editable.data import labelled_folder
from editable.errors import UserError
from editable.rewriting import FirstFinder, MaskFinder
from tests.callbacks.site.constant_images import make_data, save_images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_images(tmp_path)
    return tmp_path


def test_a_broken_photograph(folder: Path) -> None:
    data = make_data(folder)
    photographs = data.evaluated(labelled_folder(folder / "train", data.classes))
    read_all(photographs, data, "photograph")
    broken = folder / "train" / "dog" / "7.png"
    broken.write_bytes(b"no image")
    with pytest.raises(UserError, match=r"7\.png"):
        read_all(photographs, data, "photograph")


def test_images_of_another_size(folder: Path) -> None:
    images = TensorDataset(torch.zeros(3, 3, 8, 9))
    with pytest.raises(UserError, match=r"the photograph 0 is \[3, 8, 9\] \(channels, height, width\)"):
        read_all(images, make_data(folder), "photograph")


@pytest.mark.filterwarnings("ignore:.* files below .* are left out")  # the outlines beside the images
def test_masks_of_all_test_images_are_read(folder: Path) -> None:
    data = make_data(folder)
    masks = folder / "masks" / "test" / "dog"
    masks.mkdir(parents=True)
    Image.fromarray(np.full((8, 8), 255, dtype=np.uint8)).save(masks / "3.png")
    finder = MaskFinder(str(folder / "masks"), str(folder))
    outlines = MaskFinder(str(folder / "cat.json"), str(folder))
    read_finders([FirstFinder([outlines, finder])], data)
    (masks / "3.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"3\.png"):
        read_finders([FirstFinder([outlines, finder])], data)
    Image.fromarray(np.full((7, 8), 255, dtype=np.uint8)).save(masks / "3.png")
    with pytest.raises(UserError, match=r"3\.png is 7×8 pixels"):
        read_finders([finder], data)
