"""A set of images is recognised by every one of them, and by how it is prepared."""

import os
from pathlib import Path

import pytest
import torch
from torch.utils.data import ConcatDataset, Subset, TensorDataset

from editable.callbacks.run import image_identity
from editable.callbacks.run.image_identity import files_identity, images_identity
from tests.callbacks.site.constant_images import make_data, save_images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_images(tmp_path)
    return tmp_path


def test_each_image_in_memory_counts() -> None:
    images = torch.rand(90, 1, 4, 4)
    found = images_identity(TensorDataset(images))
    assert images_identity(TensorDataset(images.clone())) == found
    for position in range(90):
        changed = images.clone()
        changed[position, 0, 3, 2] += 0.25
        assert images_identity(TensorDataset(changed)) != found, position


def test_positions_order_and_labels_count() -> None:
    images, labels = torch.rand(6, 1, 2, 2), torch.arange(6)
    data = TensorDataset(images, labels)
    assert images_identity(Subset(data, [1, 2])) == images_identity(Subset(data, [1, 2]))
    assert images_identity(Subset(data, [1, 2])) != images_identity(Subset(data, [2, 1]))
    assert images_identity(data, [1, 2]) != images_identity(data, [1, 3])
    assert images_identity(TensorDataset(images, labels + 1)) != images_identity(data)
    both = ConcatDataset([data, TensorDataset(images + 1, labels)])
    assert images_identity(both, [0, 7]) != images_identity(both, [0, 1])


@pytest.mark.parametrize("cache", [False, True])
def test_each_file_counts(folder: Path, cache: bool) -> None:
    def found(**settings: object) -> str:
        return images_identity(make_data(folder, cache=cache, **settings).test_dataset)

    before = found()
    assert found() == before
    assert found(resize_size=9) != before
    for path in sorted((folder / "test").rglob("*.png")):
        content, state = path.read_bytes(), path.stat()
        other = folder / "train" / path.parent.name / "9.png"
        path.write_bytes(other.read_bytes())
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
        assert found() != before, path
        path.write_bytes(content)
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
        assert found() == before


def test_preparation_and_libraries_count(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_data(folder)
    before = images_identity(data.test_dataset)
    data.std = (0.5, 0.5, 0.5)
    assert images_identity(data.evaluated(data.test_dataset.images)) != before
    monkeypatch.setattr(image_identity, "LIBRARIES", ("torch",))
    assert images_identity(data.test_dataset) != before


def test_files_that_settings_name_and_further_ones_count(tmp_path: Path) -> None:
    named, further, missing = (tmp_path / name for name in ("outlines.json", "mask.png", "missing.png"))
    named.write_text("{}")
    further.write_text("1")
    settings = {"masks": str(named), "sizes": [3, None], "nested": [{"texture": "no file"}]}
    found = files_identity(settings, [further, missing])
    assert found == files_identity({"nested": [str(named)]}, [further])
    for path in (named, further):
        path.write_text("other")
        changed = files_identity(settings, [further])
        assert changed != found
        found = changed
