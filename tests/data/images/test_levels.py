"""Levels mean what the format says, also where Pillow hands them on as they are stored."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from editable.data.images.reader import read_image, read_mask_image, read_size
from editable.errors import UserError

LEVELS = np.random.RandomState(0).randint(0, 256, (5, 8)).astype(np.uint8)


def expected(levels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(levels.astype(np.uint8)).expand(3, -1, -1)


def write_tiff(path: Path, data: bytes, bits: int, photometric: int = 1, sample_format: int = 1) -> None:
    """Write one strip of grey pixels of LEVELS' size, by TIFF 6.0's section 4."""
    height, width = LEVELS.shape
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: height, 279: len(data)}
    tags[339] = sample_format
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    data += b"\0" * (len(data) % 2)
    head = b"II*\0" + struct.pack("<I", 8 + len(data))
    path.write_bytes(head + data + struct.pack("<H", len(tags)) + entries + b"\0\0\0\0")


def write_png(path: Path, rows: bytes, width: int, bits: int, colour_type: int, transparent: tuple[int, ...]) -> None:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, 1, bits, colour_type, 0, 0, 0))
        + chunk(b"tRNS", struct.pack(f">{len(transparent)}H", *transparent))
        + chunk(b"IDAT", zlib.compress(b"\0" + rows))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "RGBX", "CMYK", "YCbCr", "I;16"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_turned_tiffs_of_every_mode(tmp_path: Path, mode: str, orientation: int):
    """Stored turned by quarters against the tag's: 3 is half a turn, 6 a quarter clockwise, 8 one against the clock."""
    quarters = {1: 0, 3: 2, 6: 1, 8: 3}[orientation]
    levels = np.where(LEVELS > 127, 255, 0) if mode == "1" else LEVELS
    stored = np.ascontiguousarray(np.rot90(levels, quarters).astype(np.uint8))
    image = Image.fromarray(stored.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(stored).convert(mode)
    tag = Image.Exif()
    tag[0x0112] = orientation
    image.save(tmp_path / "turned.tiff", exif=tag)
    if mode == "YCbCr":  # before Pillow 13
        try:
            Image.open(tmp_path / "turned.tiff").load()
        except OSError as error:
            pytest.skip(f"this Pillow cannot read what it has written itself: {error}")
    assert torch.equal(read_image(tmp_path / "turned.tiff"), expected(levels))
    assert read_size(tmp_path / "turned.tiff") == LEVELS.shape


@pytest.mark.parametrize("bits", [8, 16])
def test_white_is_zero_where_the_file_says_so(tmp_path: Path, bits: int):
    data = LEVELS.tobytes() if bits == 8 else (LEVELS.astype("<u2") * 257).tobytes()
    write_tiff(tmp_path / "negative.tiff", data, bits, photometric=0)
    assert torch.equal(read_image(tmp_path / "negative.tiff"), expected(255 - LEVELS))
    mask = read_mask_image(tmp_path / "negative.tiff")
    torch.testing.assert_close(mask, torch.from_numpy((255 - LEVELS) / 255).float())


def test_white_of_twelve_bits_is_4095(tmp_path: Path):
    levels = LEVELS.astype(np.int64) * 16 + 8
    pairs = levels.reshape(-1, 2)
    packed = np.stack([pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], axis=1)
    write_tiff(tmp_path / "deep.tiff", packed.astype(np.uint8).tobytes(), 12)
    assert torch.equal(read_image(tmp_path / "deep.tiff"), expected(np.rint(levels * 255 / 4095)))
    torch.testing.assert_close(read_mask_image(tmp_path / "deep.tiff"), torch.from_numpy(levels / 4095).float())


@pytest.mark.parametrize(("bits", "kind"), [(8, "<i1"), (16, "<i2")])
def test_signed_levels_are_refused(tmp_path: Path, bits: int, kind: str):
    write_tiff(tmp_path / "signed.tiff", LEVELS.astype(kind).tobytes(), bits, sample_format=2)
    for read in (read_image, read_mask_image):
        with pytest.raises(UserError, match=r"signed\.tiff cannot be read \(its levels are signed numbers"):
            read(tmp_path / "signed.tiff")


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_the_transparent_level_is_that_of_the_file(tmp_path: Path, bits: int):
    """Level 1 of b bits is 255 / (2^b − 1) of 8 bits, as level 3; one of the two is transparent."""
    top = 2**bits - 1
    levels = [0, 1, top, min(3, top)]
    text = "".join(f"{level:0{bits}b}" for level in levels).ljust(8 * max(1, bits // 2), "0")
    rows = bytes(int(text[start : start + 8], 2) for start in range(0, len(text), 8))
    write_png(tmp_path / "grey.png", rows, 4, bits, 0, (1,))
    seen = [255 if level == 1 else round(level * 255 / top) for level in levels]
    assert read_image(tmp_path / "grey.png")[0, 0].tolist() == seen
    if bits > 1:
        assert read_mask_image(tmp_path / "grey.png")[0, 1] == 0


def test_a_transparent_colour_of_sixteen_bits(tmp_path: Path):
    colours = np.array([(257, 0, 0), (6000, 7000, 8000), (65535, 0, 0)])
    write_png(tmp_path / "colours.png", colours.astype(">u2").tobytes(), 3, 16, 2, (6000, 7000, 8000))
    assert read_image(tmp_path / "colours.png")[:, 0].T.tolist() == [[1, 0, 0], [255, 255, 255], [255, 0, 0]]
