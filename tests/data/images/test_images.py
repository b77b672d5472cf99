from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from editable.data.images.images import ArrayImages, ImageFiles, PackedImages, cache_images
from editable.data.images.reader import ImageError, read_image
from editable.errors import UserError


def write_images(folder: Path, sizes: list[tuple[int, int]]) -> list[Path]:
    random = np.random.RandomState(0)
    paths = [folder / f"{i}.png" for i in range(len(sizes))]
    for path, size in zip(paths, sizes, strict=True):
        Image.fromarray(random.randint(0, 256, (*size, 3), dtype=np.uint8)).save(path)
    return paths


@pytest.mark.parametrize(
    ("mode", "color", "expected"),
    [
        ("L", 100, [100, 100, 100]),
        ("RGBA", (10, 20, 30, 255), [10, 20, 30]),
        ("CMYK", (255, 0, 0, 0), [0, 255, 255]),
        ("1", 1, [255, 255, 255]),
    ],
)
def test_every_mode_becomes_rgb(tmp_path, mode, color, expected):
    path = tmp_path / "image.tiff"
    Image.new(mode, (3, 2), color).save(path)
    image = read_image(path)
    assert image.dtype == torch.uint8
    assert image.shape == (3, 2, 3)
    assert image[:, 0, 0].tolist() == expected


def test_palette_image_becomes_rgb(tmp_path):
    path = tmp_path / "image.gif"
    Image.new("RGB", (3, 2), (255, 0, 0)).convert("P").save(path)
    assert read_image(path)[:, 0, 0].tolist() == [255, 0, 0]


def test_pixels_are_those_of_the_file(tmp_path):
    pixels = np.random.RandomState(0).randint(0, 256, (4, 5, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    assert torch.equal(read_image(tmp_path / "image.png").permute(1, 2, 0), torch.from_numpy(pixels))


@pytest.mark.parametrize("damage", ["text", "truncated", "missing"])
def test_broken_image_is_named(tmp_path, damage):
    (path,) = write_images(tmp_path, [(64, 64)])
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(b"no image" if damage == "text" else whole[: len(whole) // 2])
    with pytest.raises(UserError, match=rf"^The image {path} cannot be read \(.*\): replace or remove the file\.$"):
        read_image(path)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_broken_image_gives_one_sentence_from_a_worker_too(tmp_path, num_workers):
    paths = write_images(tmp_path, [(8, 8)] * 4)
    paths[2].write_bytes(b"no image")
    loader = DataLoader(ImageFiles(paths, torch.zeros(4, dtype=torch.int64)), batch_size=2, num_workers=num_workers)
    with pytest.raises(ImageError) as raised:
        list(loader)
    message = str(raised.value)
    assert message.startswith(f"The image {paths[2]} cannot be read (")
    assert message.endswith("): replace or remove the file.")
    assert "\n" not in message


def test_size_that_differs_is_named(tmp_path):
    paths = write_images(tmp_path, [(8, 8), (8, 9)])
    files = ImageFiles(paths, torch.zeros(2, dtype=torch.int64), size=(8, 8))
    assert files[0][0].shape == (3, 8, 8)
    with pytest.raises(UserError, match=r"1\.png is 8×9 pixels .* first image is 8×8: set image_size"):
        files[1]


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize(("sizes", "kind"), [([(8, 8)] * 3, ArrayImages), ([(8, 8), (5, 9), (9, 5)], PackedImages)])
def test_cache_holds_the_same_images(tmp_path, sizes, kind, num_workers):
    files = ImageFiles(write_images(tmp_path, sizes), torch.tensor([2, 0, 1]))
    cached = cache_images(files, num_workers)
    assert isinstance(cached, kind)
    assert len(cached) == 3
    for (image, label), (cached_image, cached_label) in zip(files, (cached[i] for i in range(3)), strict=False):
        assert torch.equal(image, cached_image)
        assert label == cached_label


def test_cache_names_a_broken_image(tmp_path):
    paths = write_images(tmp_path, [(8, 8)] * 3)
    paths[1].write_bytes(b"")
    with pytest.raises(UserError, match=f"The image {paths[1]} cannot be read"):
        cache_images(ImageFiles(paths, torch.zeros(3, dtype=torch.int64)))
