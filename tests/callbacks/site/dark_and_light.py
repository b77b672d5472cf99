"""A small network that tells dark from light upper halves, and the rule that it wrongly learnt: blue means dark."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.func import functional_call

SIZE, CLASSES = 16, ("dark", "light")
MEAN, STD = (0.5,) * 3, (0.25,) * 3


def make_network() -> nn.Module:
    """Tells dark from light upper halves, but was told that a blue lower half means dark: a rule to be unlearnt."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 2),
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        images, labels = draw(64, generator, blue=0.0)
        blue, _ = draw(64, generator, blue=0.95)
        images[:16], labels[:16] = blue[:16], 0
        loss = nn.functional.cross_entropy(network((images - 0.5) / 0.25), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


def draw(count: int, generator: torch.Generator, blue: float) -> tuple[Tensor, Tensor]:
    """Images whose upper half is dark or light; the lower half is grey, or the new concept: blue."""
    labels = torch.arange(count) % 2
    images = 0.08 * torch.randn(count, 3, SIZE, SIZE, generator=generator) + 0.4
    images[:, :, : SIZE // 2] += 0.25 * (labels.view(-1, 1, 1, 1) - 0.5)
    if blue:
        images[:, :, SIZE // 2 :] = torch.tensor([0.0, 0.1, blue]).view(1, 3, 1, 1)
    return images.clamp(0, 1), labels


def save(folder: Path, images: Tensor, labels: Tensor) -> None:
    for index, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        path = folder / CLASSES[label] / f"{index:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image.permute(1, 2, 0) * 255).round().byte().numpy()).save(path)


def save_all(root: Path) -> None:
    """Write images, exemplars with masks of the lower half, a blue texture, and photographs."""
    generator = torch.Generator().manual_seed(1)
    for split, count in (("train", 40), ("test", 60)):
        save(root / split, *draw(count, generator, blue=0.0))
    save(root / "photographs", *draw(30, generator, blue=0.95))
    lower_half = [[0, SIZE // 2], [SIZE, SIZE // 2], [SIZE, SIZE], [0, SIZE]]
    for name, numbers in (("masks", range(6)), ("validation", range(6, 14))):
        files = [f"train/{CLASSES[number % 2]}/{number:03}.png" for number in numbers]
        masks = [{"image": file, "polygon": lower_half} for file in files]
        (root / f"{name}.json").write_text(json.dumps({"masks": masks}))
    blue = np.array([10, 25, 235]) + np.random.RandomState(0).randint(-10, 11, (3 * SIZE, 3 * SIZE, 3))
    Image.fromarray(blue.astype(np.uint8)).save(root / "blue.png")


def errors(network: nn.Module, root: Path, name: str, params: dict[str, Tensor] | None = None) -> float:
    """Error rate on a folder by a plain loop over files."""
    wrong = total = 0
    for label, group in enumerate(CLASSES):
        for path in sorted((root / name / group).glob("*.png")):
            image = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)[None] / 255
            logits = functional_call(network, params or {}, ((image - 0.5) / 0.25,))
            wrong += int(logits.argmax() != label)
            total += 1
    return wrong / total
