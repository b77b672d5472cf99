"""Image files are read as a viewer shows them: turned, opaque, with 16 bits scaled, or refused."""

import os
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from editable.data.images.reader import (
    ImageError,
    pixels_of,
    read_head,
    read_image,
    read_image_bytes,
    read_mask_image,
    read_size,
)
from editable.errors import UserError

ORIENTATION = 0x0112
PIXELS = np.random.RandomState(0).randint(0, 256, (5, 7, 3), dtype=np.uint8)


def as_tensor(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)


def stored_for(orientation: int) -> np.ndarray:
    """Pixels that a viewer shows as ``PIXELS``, by the definition of the tag: where rows and columns of the file go.

    The tag names the side of the picture at which the file's first row and first column lie (TIFF 6.0, page 36).
    """
    upright = PIXELS
    sides = {
        1: upright,  # row 0 is the top, column 0 the left side
        2: upright[:, ::-1],  # top, right
        3: upright[::-1, ::-1],  # bottom, right
        4: upright[::-1],  # bottom, left
        5: upright.transpose(1, 0, 2),  # left, top: the file's rows are the picture's columns
        6: upright[:, ::-1].transpose(1, 0, 2),  # right, top
        7: upright[::-1, ::-1].transpose(1, 0, 2),  # right, bottom
        8: upright[::-1].transpose(1, 0, 2),  # left, bottom
    }
    return np.ascontiguousarray(sides[orientation])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["png", "tiff", "webp"])
def test_pictures_are_turned_as_their_tag_says(tmp_path: Path, orientation: int, ending: str):
    path, tag = tmp_path / f"turned.{ending}", Image.Exif()
    tag[ORIENTATION] = orientation
    Image.fromarray(stored_for(orientation)).save(path, exif=tag, **({"lossless": True} if ending == "webp" else {}))
    assert torch.equal(read_image(path), as_tensor(PIXELS))
    assert read_size(path) == (5, 7)


def test_masks_are_turned_too(tmp_path: Path):
    tag = Image.Exif()
    tag[ORIENTATION] = 6
    mask = np.zeros((5, 7), dtype=np.uint8)
    mask[0, :3] = 255
    Image.fromarray(np.ascontiguousarray(mask[:, ::-1].T)).save(tmp_path / "mask.png", exif=tag)
    assert torch.equal(read_mask_image(tmp_path / "mask.png"), torch.from_numpy(mask / 255).float())


@pytest.mark.parametrize("ending", ["png", "tiff", "pgm"])
def test_sixteen_bits_are_scaled(tmp_path: Path, ending: str):
    """White is 65535: level v of 8 bits is 257 · v of 16, and levels between go to the nearest."""
    levels = np.arange(256, dtype=np.uint16).reshape(16, 16)
    for shift, name in ((0, "exact"), (128, "below the middle"), (129, "above it")):
        path = tmp_path / f"{name}.{ending}"
        stored = np.minimum(levels.astype(np.int64) * 257 + shift, 65535).astype(np.uint16)
        if ending == "pgm":
            path.write_bytes(b"P5 16 16 65535\n" + stored.astype(">u2").tobytes())
        else:
            Image.fromarray(stored).save(path)
        expected = np.minimum(levels + (shift > 128), 255).astype(np.uint8)
        assert torch.equal(read_image(path), torch.from_numpy(expected).expand(3, -1, -1)), name


@pytest.mark.parametrize("mode", ["I", "F"])
def test_levels_without_a_known_white_are_refused(tmp_path: Path, mode: str):
    Image.new(mode, (4, 4), 1).save(tmp_path / "deep.tiff")
    for read in (read_image, read_mask_image):
        with pytest.raises(UserError, match=r"deep\.tiff cannot be read \(its levels .* nothing says what is white"):
            read(tmp_path / "deep.tiff")


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB"])
def test_transparent_parts_are_white_whatever_lies_beneath(tmp_path: Path, mode: str):
    pixels = np.full((4, 4, 4), (100, 100, 100, 255), dtype=np.uint8)
    seen = []
    for hidden in (0, 200):
        path, options = tmp_path / f"{hidden}.png", {}
        pixels[:, :2] = (hidden, hidden, hidden, 0)
        image = Image.fromarray(pixels)
        if mode == "P":  # one colour of the palette is transparent
            image = Image.fromarray(np.repeat([[0, 0, 1, 1]], 4, axis=0).astype(np.uint8), "P")
            image.putpalette([hidden] * 3 + [100] * 3)
            options = {"transparency": 0}
        elif mode == "RGB":  # one colour is transparent
            image, options = Image.fromarray(pixels[..., :3]), {"transparency": (hidden,) * 3}
        else:
            image = image.convert(mode)
        image.save(path, **options)
        seen.append(read_image(path))
    assert torch.equal(seen[0], seen[1])
    assert seen[0][:, :, :2].unique().tolist() == [255]
    assert seen[0][:, :, 2:].unique().tolist() == [100]


def test_half_transparent_parts_are_mixed_with_white(tmp_path: Path):
    Image.new("RGBA", (2, 2), (0, 100, 255, 51)).save(tmp_path / "image.png")  # a fifth opaque
    assert read_image(tmp_path / "image.png")[:, 0, 0].tolist() == [204, 224, 255]


def test_the_first_of_several_frames_is_read(tmp_path: Path):
    frames = [Image.new("RGB", (3, 3), (level,) * 3) for level in (10, 200)]
    frames[0].save(tmp_path / "pages.tiff", save_all=True, append_images=frames[1:])
    assert read_image(tmp_path / "pages.tiff").unique().tolist() == [10]


def test_what_is_no_file_is_refused_at_once(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", Path("/dev/zero"), tmp_path):
        for read in (read_image, read_mask_image, read_size):
            with pytest.raises(UserError, match=r"cannot be read \(it is no file\)"):
                read(path)


def test_bytes_and_pictures_are_read_as_files_are(tmp_path):
    """Turned, transparent, of 16 bits and palette: by the file, by what it holds, and by what Pillow has opened."""
    random, exif = np.random.RandomState(0), Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    levels = random.randint(0, 2**16, (5, 7)).astype(np.uint16)
    pictures = {
        "turned.jpg": (Image.fromarray(random.randint(0, 256, (5, 7, 3), dtype=np.uint8)), {"exif": exif}),
        "transparent.png": (Image.fromarray(random.randint(0, 256, (5, 7, 4), dtype=np.uint8)), {}),
        "deep.png": (Image.fromarray(levels), {}),
        "palette.png": (Image.fromarray(random.randint(0, 256, (5, 7, 3), dtype=np.uint8)).quantize(16), {}),
    }
    for name, (picture, settings) in pictures.items():
        path = tmp_path / name
        picture.save(path, **settings)
        expected = read_image(path)
        assert torch.equal(read_image_bytes(path.read_bytes(), name), expected), name
        with Image.open(path) as opened:
            assert torch.equal(pixels_of(opened, name), expected), name
    with pytest.raises(ImageError, match="The image row 3 cannot be read"):
        read_image_bytes(b"nothing", "row 3")
    with pytest.raises(ImageError, match=r"The image row 3 cannot be read .*floats"):
        pixels_of(Image.fromarray(np.zeros((2, 2), dtype=np.float32)), "row 3")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_the_head_is_read_without_the_pixels(kind: str):
    """Also where only the head is there, and no picture could be decoded."""
    file = BytesIO()
    Image.new("L", (300, 200)).save(file, kind, **({"compression": None} if kind == "TIFF" else {}))
    assert read_head(file.getvalue(), "a picture") == (200, 300, kind)
    if kind in ("PNG", "BMP"):
        assert read_head(file.getvalue()[:70], "a picture") == (200, 300, kind)
    with pytest.raises(UserError, match="The image a picture cannot be read"):
        read_head(b"no picture", "a picture")
