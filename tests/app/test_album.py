"""Images that visitors bring: decoded by the one reader, within limits that are looked at first."""

from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from threading import Lock, get_ident
from time import sleep

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import editable.app.album
from editable.app.album import AT_ONCE, MOST_BROUGHT, Album, draw_images
from editable.data import DigitsDataModule
from editable.data.images.grey import to_grey
from editable.errors import UserError
from tests.app.small import digits, images, shared


@pytest.fixture
def album() -> Album:
    (x, y), _ = shared()
    return Album(digits(), x, y, [str(position) for position in range(len(x))], most_pixels=10_000)


def content(picture: Image.Image, kind: str = "PNG", **settings: object) -> bytes:
    file = BytesIO()
    picture.save(file, kind, **settings)
    return file.getvalue()


def grey(size: tuple[int, int] = (8, 8)) -> Image.Image:
    return Image.fromarray(np.arange(size[0] * size[1], dtype=np.uint8).reshape(size[::-1]))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "TIFF"])
def test_what_is_brought_is_what_the_network_gets(album: Album, kind: str):
    seen = album.get(album.bring(content(grey(), kind), "mine.png"))
    mean, std = (torch.tensor(some).view(-1, 1, 1) for some in (digits().mean, digits().std))
    expected = (torch.arange(64).view(1, 8, 8) / 255 - mean) / std
    assert torch.allclose(seen.image, expected, atol=1e-5)
    assert (seen.name, seen.label, seen.note) == ("mine.png", None, "")


def test_other_sizes_are_brought_to_the_networks(album: Album):
    seen = album.get(album.bring(content(Image.new("RGB", (90, 60), (255, 255, 255))), "white.png"))
    assert seen.image.shape == (1, 8, 8)
    assert seen.note == "90×60 pixels, resized and cut to 8×8"
    assert torch.allclose(seen.image, seen.image[0, 0, 0].expand_as(seen.image))


def test_pixels_are_counted_before_any_is_decoded(album: Album, monkeypatch: pytest.MonkeyPatch):
    def decodes(*arguments: object) -> None:
        raise AssertionError("it was decoded")

    monkeypatch.setattr(editable.app.album, "read_image_bytes", decodes)
    with pytest.raises(UserError, match=r"is 200×100 pixels, more than the 0\.01 million that are allowed"):
        album.bring(content(Image.new("1", (200, 100))), "large.png")
    with pytest.raises(AssertionError):
        album.bring(content(Image.new("1", (100, 100))), "enough.png")


@pytest.mark.parametrize("size", [(2000, 1), (1, 2000)])
def test_what_resizing_would_make_too_large_is_not_decoded(
    album: Album, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
):
    """Its shorter side of one pixel covers 8: 8 · 2000 · 8 pixels."""
    monkeypatch.setattr(editable.app.album, "read_image_bytes", None)
    with pytest.raises(UserError, match=r"of which more than the 0\.01 million that are allowed would be made"):
        album.bring(content(Image.new("1", size)), "strip.png")


def test_a_jpeg_with_further_pictures_is_the_first(album: Album):
    several = content(grey(), "MPO", save_all=True, append_images=[Image.new("L", (4, 4))], quality=100)
    alone = content(grey(), "JPEG", quality=100)
    assert several[:2] == alone[:2] == bytes([0xFF, 0xD8])
    first, other = (album.get(album.bring(some, "photo.jpg")).image for some in (several, alone))
    assert torch.equal(first, other)


def test_few_are_decoded_and_resized_at_a_time(album: Album, monkeypatch: pytest.MonkeyPatch):
    under_way, seen, lock = set(), [], Lock()

    def slowly(image: Tensor) -> Tensor:
        with lock:
            under_way.add(get_ident())
            seen.append(len(under_way))
        sleep(0.05)
        with lock:
            under_way.remove(get_ident())
        return to_grey(image)

    monkeypatch.setattr(editable.app.album, "to_grey", slowly)
    with ThreadPoolExecutor(6) as visitors:
        list(visitors.map(lambda number: album.bring(PNG, str(number)), range(6)))
    assert max(seen) <= AT_ONCE


PNG = content(grey())
WRONG = {
    "nothing": b"",
    "text": b"no image at all",
    "page": b"<html><script>alert(1)</script></html>",
    "half": PNG[: len(PNG) // 2],
    "flipped": PNG[:40] + bytes([PNG[40] ^ 255]) + PNG[41:],
    "head": PNG[:33],
    "zeros": bytes(1000),
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"/>',
    "ppm": b"P6 2 2 255\n" + bytes(12),
    "pickle": b"\x80\x04\x95\x0c\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix.",
    "floats": content(Image.fromarray(np.ones((8, 8), dtype=np.float32)), "TIFF"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_image_is_said_in_a_sentence(album: Album, name: str):
    with pytest.raises(UserError) as raised:
        album.bring(WRONG[name], name)
    assert name in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\photos\\cat.png", "cat.png"),
        ("", "an image"),
        ("/", "an image"),
        ("<img src=x>", "<img src=x>"),
        ("a\nb\x1b", "a\\nb\\x1b"),
        ("x" * 500, "x" * 100),
    ],
)
def test_names_are_names_and_no_paths(album: Album, given: str, kept: str):
    assert album.get(album.bring(PNG, given)).name == kept


@pytest.mark.parametrize("key", ["", "-1", "120", "1e1", "٣", "../1", "0x1", "9" * 20, "unknown"])
def test_keys_of_nothing(album: Album, key: str):
    with pytest.raises(UserError, match="is not there any more"):
        album.get(key)


def test_the_oldest_are_forgotten(album: Album):
    keys = [album.bring(PNG, str(number)) for number in range(MOST_BROUGHT + 1)]
    assert len(set(keys)) == len(keys)
    album.get(keys[1])
    with pytest.raises(UserError):
        album.get(keys[0])


def test_images_are_shown_as_they_are_stored(album: Album):
    data = digits()
    shown = np.asarray(Image.open(BytesIO(album.png("3"))))
    x = images()[0][[position for position in range(180) if position % 3][3]]
    assert shown.shape == (8, 8, 3)
    stored = x * data.std[0] + data.mean[0]
    assert np.array_equal(shown[..., 0], (stored[0] * 255).round().to(torch.uint8).numpy())


def test_drawn_images_are_those_of_the_data_set():
    data = DigitsDataModule()
    data.setup("test")
    x, y, names = draw_images(data, 20, 1)
    assert len(names) == len(set(names)) == 20
    for image, label, name in zip(x, y, names, strict=True):
        expected, true = data.test_dataset[int(name)]
        assert torch.equal(image, expected)
        assert int(label) == true
    assert len(draw_images(data, 10**6, 0)[1]) == len(data.test_dataset)
