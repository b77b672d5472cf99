"""Pictures by files, folders and patterns."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from editable.data.images.pictures import Pictures
from editable.errors import UserError
from tests.warned import one_warning


@pytest.fixture(autouse=True)
def _pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("b.png", "a.jpg", "deep/er/c.png", "[odd] *.png", "nothing/readme.txt")):
        path = Path("photos", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".txt":
            path.write_text("no image")
        else:
            Image.fromarray(np.full((3, 4, 3), 40 * number, dtype=np.uint8)).save(path)


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        (["photos/b.png"], ["photos/b.png"]),
        (["photos/*.png"], ["photos/[odd] *.png", "photos/b.png"]),
        (["photos/**/*.png"], ["photos/[odd] *.png", "photos/b.png", "photos/deep/er/c.png"]),
        (["photos/[odd] *.png"], ["photos/[odd] *.png"]),
        (["photos/b.png", "photos/?.*"], ["photos/b.png", "photos/a.jpg"]),
    ],
)
def test_what_is_meant(asked: list[str], names: list[str]):
    assert Pictures(asked).names == names


def test_a_folder_is_all_images_below_it():
    with one_warning("readme.txt"):
        names = sorted(Pictures(["photos"]).names)
    assert names == [
        "photos/[odd] *.png",
        "photos/a.jpg",
        "photos/b.png",
        "photos/deep/er/c.png",
    ]


def test_pixels():
    image, label = Pictures(["photos/deep/er/c.png"])[0]
    assert torch.equal(image, torch.full((3, 3, 4), 80, dtype=torch.uint8))
    assert label == -1
    assert torch.equal(Pictures(["photos/deep/er/c.png"], grey=True)[0][0], image[:1])


@pytest.mark.filterwarnings("ignore:.*readme")
@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ([], "there is no image to look at"),
        (["photo.png"], "the image 'photo.png' is not there"),
        (["photos/*.gif"], r"the image 'photos/\*.gif' matches no file"),
        (["photos/nothing"], "the folder 'photos/nothing' has no images"),
        (["photos/b.png", "photos/nothing/readme.md"], "the image 'photos/nothing/readme.md' is not there"),
    ],
)
def test_what_is_not_there(asked: list[str], message: str):
    with pytest.raises(UserError, match=message):
        Pictures(asked)
