"""Test images are dealt out over processes, each to one of them, with its name."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image

from editable.callbacks.run.image_shares import ImageShares
from editable.data import ImageFolderDataModule

CLASSES, COUNT = ("boat", "car", "tram"), 12


def make_data(root: Path) -> ImageFolderDataModule:
    for name in CLASSES:
        for split in ("train", "test"):
            (root / split / name).mkdir(parents=True)
        for number in range(COUNT):
            pixels = np.full((4, 4, 3), number, dtype=np.uint8)
            Image.fromarray(pixels).save(root / "test" / name / f"{number:02}.png")
    data = ImageFolderDataModule(str(root), mean=[0.4] * 3, std=[0.25] * 3, batch_size=7, num_workers=0)
    data.setup("test")
    return data


def test_every_image_is_with_one_process(tmp_path: Path):
    data = make_data(tmp_path)
    names = [f"{name}/{number:02}.png" for name in CLASSES for number in range(COUNT)]
    seen: dict[int, str] = {}
    for rank in range(3):
        trainer, progress = (
            SimpleNamespace(global_rank=rank, world_size=3),
            SimpleNamespace(add_task=lambda *a, **k: 0, advance=lambda *a: None, remove_task=lambda *a: None),
        )
        shares = ImageShares(trainer, data, torch.device("cpu"), progress)
        assert shares.labels.tolist() == [CLASSES.index(name.split("/")[0]) for name in names]
        for images, some, positions in shares.batches(range(36), ""):
            assert not seen.keys() & set(positions.tolist())
            seen |= dict(zip(positions.tolist(), some, strict=True))
            # In [0, 1] as they are stored, and not normalised.
            assert torch.allclose(images[:, 0, 0, 0] * 255, (positions % COUNT).float())
    assert [seen[position] for position in range(36)] == names
