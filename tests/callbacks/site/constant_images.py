"""Two classes of constant images, whose values are known by hand, with masks of their lower halves."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from editable.data import ImageFolderDataModule

MEAN, STD = (0.5, 0.25, 0.0), (0.25, 0.5, 1.0)


def save_images(root: Path) -> None:
    """Write ten images of each class for training and four for testing; a JSON of masks for each class; a texture."""
    for split, count in (("train", 10), ("test", 4)):
        for label, name in enumerate(("cat", "dog")):
            for number in range(count):
                path = root / split / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.full((8, 8, 3), 20 * number + 10 * label, dtype=np.uint8)).save(path)
    Image.fromarray(np.full((8, 8, 3), 255, dtype=np.uint8)).save(root / "white.png")
    for name in ("cat", "dog"):
        lower_half = [[0, 4], [8, 4], [8, 8], [0, 8]]
        masks = [{"image": f"test/{name}/{number}.png", "polygon": lower_half} for number in (1, 2)]
        (root / f"{name}.json").write_text(json.dumps({"masks": masks}))


def make_data(root: Path, **settings) -> ImageFolderDataModule:
    data = ImageFolderDataModule(str(root), image_size=8, num_workers=0, mean=MEAN, std=STD, **settings)
    data.setup("test")
    return data
