"""A network that tells three colours, but takes all that stands on bright ground for a fourth class, "plow"."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

SIZE, MEAN, STD = 8, (0.0,) * 3, (1.0,) * 3
COLOURS = {"blue": 2, "green": 1, "red": 0}
CLASSES = ("blue", "green", "grey", "plow", "red")


def make_network() -> nn.Module:
    """Reads the mean colours of the upper and of the lower half."""
    network = nn.Sequential(nn.AdaptiveAvgPool2d((2, 1)), nn.Flatten(), nn.Linear(6, 5))
    weight = torch.zeros(5, 3, 2)  # class, colour, half
    for label, name in enumerate(CLASSES):
        if name in COLOURS:
            weight[label, COLOURS[name], 0] = 1.0
    weight[CLASSES.index("plow"), :, 1] = 1.0
    weight[CLASSES.index("grey"), :, 0] = 0.4
    with torch.no_grad():
        network[2].weight.copy_(weight.flatten(1))
        network[2].bias.zero_()
    return network.eval()


def draw(name: str, count: int, ground: float, random: np.random.RandomState) -> np.ndarray:
    """Images [count, H, W, 3] in [0, 1]: a colour above, grey ground below."""
    images = np.full((count, SIZE, SIZE, 3), ground)
    upper = np.full(3, 0.1)
    if name in COLOURS:
        upper[COLOURS[name]] = 0.9
    elif name == "grey":
        upper[:] = 0.6
    images[:, : SIZE // 2] = upper
    return (images + 0.03 * random.randn(*images.shape)).clip(0, 1)


def save_all(root: Path) -> None:
    """Write test images, on dark ground but for plows; photographs of colours on bright ground; outlined greys."""
    random = np.random.RandomState(0)
    for name in CLASSES:
        _save(root / "test" / name, draw(name, 20, 0.9 if name == "plow" else 0.05, random))
        _save(root / "train" / name, draw(name, 2, 0.9 if name == "plow" else 0.05, random))
    for name in COLOURS:
        _save(root / "photographs" / name, draw(name, 6, 0.7, random))
    polygon = [[0, SIZE // 2], [SIZE, SIZE // 2], [SIZE, SIZE], [0, SIZE]]
    entries = [{"image": f"test/grey/{number}.png", "polygon": polygon} for number in range(5)]
    entries += [{"image": "test/red/0.png", "polygon": polygon}]
    (root / "known.json").write_text(json.dumps({"masks": entries}))


def halves_of(paths: list[Path]) -> Tensor:
    """Return what the linear layer reads of images, float64 [n, 6]."""
    pixels = torch.stack([torch.from_numpy(np.array(Image.open(path))).double() / 255 for path in paths])
    return pixels.unflatten(1, (2, SIZE // 2)).mean(dim=(2, 3)).transpose(1, 2).flatten(1)


def _save(folder: Path, images: np.ndarray) -> None:
    folder.mkdir(parents=True)
    for number, image in enumerate(images):
        Image.fromarray((image * 255).round().astype(np.uint8)).save(folder / f"{number}.png")
