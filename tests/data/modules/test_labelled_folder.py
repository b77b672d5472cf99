"""A folder with images of some of the classes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from editable.data import labelled_folder
from editable.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, name in enumerate(["tank/b.png", "bus/a.png", "tank/a.png"]):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((4, 5, 3), number, dtype=np.uint8)).save(path)
    Image.new("RGB", (2, 2)).save(tmp_path / "texture.png")
    return tmp_path


def test_images_and_labels(folder: Path) -> None:
    images = labelled_folder(folder, ["bus", "car", "tank"])
    assert images.labels.tolist() == [0, 2, 2]
    assert [int(images[index][0].max()) for index in range(3)] == [1, 2, 0]
    assert images[0][0].shape == (3, 4, 5)


def test_a_class_that_the_network_does_not_know(folder: Path) -> None:
    with pytest.raises(UserError, match=r"'tank' .* none of the 2 classes"):
        labelled_folder(folder, ["bus", "car"])


def test_no_folder_and_no_image(folder: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        labelled_folder(folder / "nowhere", ["bus"])
    (folder / "empty").mkdir()
    for empty in (folder / "empty", folder / "empty" / "bus"):
        empty.mkdir(exist_ok=True)
        with pytest.raises(UserError, match="holds no image"):
            labelled_folder(folder / "empty", ["bus"])
