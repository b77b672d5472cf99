"""Images decoded on a device and kept: the pixels of the library's own decoder; what it cannot is Pillow's to read."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from editable.data import ImageFolderDataModule
from editable.data.images import nvjpeg
from editable.data.images.images import ImageFiles
from editable.data.images.nvjpeg import cache_by_nvjpeg
from editable.data.images.reader import ImageError, is_plain_jpeg, read_image
from editable.errors import UserError
from tests.warned import no_warning, one_warning

RGB = torchvision.io.ImageReadMode.RGB


@pytest.fixture
def on_device(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A stand-in for nvJPEG: torchvision's decoder on the processor, which is another one than Pillow's. Sizes seen."""
    seen: list[int] = []

    def decode(buffers, mode, device):
        assert device == "cuda"
        seen.append(len(buffers))
        return on_processor(buffers, mode)

    on_processor = torchvision.io.decode_jpeg
    monkeypatch.setattr(torchvision.io, "decode_jpeg", decode)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    return seen


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of files of several kinds, of which all but three are plain JPEG."""
    for name in ("cat", "dog"):
        (tmp_path / "train" / name).mkdir(parents=True)
    draw = np.random.default_rng(0)
    for number in range(6):
        pixels = draw.integers(0, 255, (20 + number, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "train" / "cat" / f"{number}.jpg")
    Image.fromarray(pixels[..., 0]).save(tmp_path / "train" / "dog" / "grey.jpg")
    Image.fromarray(pixels).save(tmp_path / "train" / "dog" / "lossless.png")
    Image.fromarray(pixels).convert("CMYK").save(tmp_path / "train" / "dog" / "printed.jpg")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "train" / "dog" / "turned.jpg", exif=turned)
    return tmp_path


def files_of(folder: Path) -> ImageFiles:
    paths = sorted(folder.glob("train/*/*"))
    return ImageFiles(paths, torch.zeros(len(paths), dtype=torch.int64))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_pixels_are_the_decoders_own_or_pillows(num_workers: int, folder: Path, on_device: list[int]):
    files = files_of(folder)
    cached = cache_by_nvjpeg(files, num_workers, "Decoding")
    assert on_device == [7]
    assert len(cached) == 10
    for number, path in enumerate(files.paths):
        plain = is_plain_jpeg(path.read_bytes())
        assert plain == (path.stem not in ("lossless", "printed", "turned"))
        own = torchvision.io.decode_image(str(path), RGB) if plain else read_image(path)
        assert torch.equal(cached.read(number), own)
        difference = cached.read(number).int() - read_image(path).int()
        assert difference.abs().max() <= 4  # of 255 levels


def test_what_it_cannot_decode_pillow_does_and_it_is_said_once(folder: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*arguments, **settings):
        raise RuntimeError("nvjpegDecode failed: 3")

    monkeypatch.setattr(torchvision.io, "decode_jpeg", fail)
    monkeypatch.setattr(nvjpeg, "BATCH", 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    files = files_of(folder)
    with one_warning(r"Pillow decodes \(nvjpegDecode failed: 3\)"):
        cached = cache_by_nvjpeg(files, 0, "Decoding")
    assert all(torch.equal(cached.read(number), read_image(path)) for number, path in enumerate(files.paths))


def test_broken_files_and_odd_sizes_are_named(folder: Path, on_device: list[int]):
    files = files_of(folder)
    with pytest.raises(ImageError, match=r"1\.jpg is 21×30 pixels"):
        cache_by_nvjpeg(ImageFiles(files.paths, files.labels, (20, 30)), 0, "Decoding")
    broken = folder / "train" / "dog" / "a.jpg"
    broken.write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"a\.jpg cannot be read"):
        cache_by_nvjpeg(files_of(folder), 0, "Decoding")
    broken.unlink()
    broken.symlink_to(folder / "nowhere.jpg")
    with pytest.raises(ImageError, match=r"a\.jpg cannot be read \(No such file"):
        cache_by_nvjpeg(files_of(folder), 0, "Decoding")


@pytest.mark.parametrize("mean", [(0.5, 0.5, 0.5), (0.5,)])
def test_an_image_folder_decoded_by_it(mean: tuple[float, ...], folder: Path, on_device: list[int]):
    settings = {"image_size": 16, "cache": True, "num_workers": 0, "batch_size": 2, "mean": mean, "std": mean}
    modules = [ImageFolderDataModule(str(folder), decoder=decoder, **settings) for decoder in ("pillow", "nvjpeg")]
    for module in modules:
        module.setup("fit")
    assert sum(on_device) == 7
    pillow, device = (module.unaugmented_training_images() for module in modules)
    assert len(pillow) == len(device)
    for number in range(len(pillow)):
        (one, label), (other, same) = pillow[number], device[number]
        assert label == same
        assert one.shape == other.shape == (len(mean), 16, 16)
        torch.testing.assert_close(one, other, rtol=0, atol=8 / 255)


@pytest.mark.parametrize(
    ("settings", "available", "message"),
    [
        ({"decoder": "dali"}, True, "decoder must be 'pillow' or 'nvjpeg', got 'dali'"),
        ({"decoder": "nvjpeg"}, True, "give cache=true, or decoder=pillow"),
        ({"decoder": "nvjpeg", "cache": True}, False, "on a CUDA device, and there is none: give decoder=pillow"),
    ],
)
def test_what_is_refused(settings, available: bool, message: str, folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    with pytest.raises(UserError, match=message):
        ImageFolderDataModule(str(folder), **settings)


def test_a_torchvision_without_it_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.delattr(torchvision.io, "decode_jpeg")
    with pytest.raises(UserError, match=r"which torchvision 0\.\d+.* has not: give decoder=pillow"):
        ImageFolderDataModule(str(folder), decoder="nvjpeg", cache=True)


def test_pillow_needs_no_device(folder: Path):
    with no_warning():
        assert ImageFolderDataModule(str(folder), cache=True).decoder == "pillow"
