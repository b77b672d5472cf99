"""Tiny image folders."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

MakeFolder = Callable[..., Path]


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """Write ``count`` random images into each of the given class folders of one split; return the root."""
    random = np.random.RandomState(0)

    def make(split: str, classes: str = "ab", count: int = 4, size: tuple[int, int] = (8, 8)) -> Path:
        root = tmp_path / "images"
        for name in classes:
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = random.randint(0, 256, (*size, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number:02}.png")
        return root

    return make
