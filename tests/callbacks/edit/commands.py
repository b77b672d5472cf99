"""The command line on a small network of digits, and the same network and images by plain PyTorch."""

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from editable.cli import main
from editable.data import DigitsDataModule
from editable.models import cifar_resnet
from tests.paths import CONFIGS

CONFIG = CONFIGS / "digits" / "baseline.yaml"
RUNS = Path("runs/digits/baseline")
QUIET = [
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--model.network.width=4",
    "--evaluation.editor.max_steps=50",
]
LENIENT = "--edit.max_drawdown=1"


def run(command: str, checkpoint: Path, *options: str) -> tuple[Path, dict[str, float]]:
    """Run a command on a checkpoint; return its folder and its metrics."""
    before = set(RUNS.glob("version_*"))
    main([command, f"--config={CONFIG}", *QUIET, f"--ckpt_path={checkpoint}", *options])
    (folder,) = set(RUNS.glob("version_*")) - before
    return folder, json.loads((folder / "metrics.json").read_text())


def network(checkpoint: Path) -> nn.Module:
    """The network of a checkpoint, by plain PyTorch."""
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    plain = cifar_resnet(num_classes=10, width=4, layers=(1, 1, 1, 1), in_channels=1).eval()
    plain.load_state_dict({name.removeprefix("network."): value for name, value in state.items() if "network." in name})
    return plain


def digits() -> tuple[Tensor, Tensor]:
    """The test images as the network takes them, and their labels."""
    data = DigitsDataModule()
    data.setup("test")
    pairs = [data.test_dataset[index] for index in range(len(data.test_dataset))]
    return torch.stack([image for image, _ in pairs]), torch.tensor([label for _, label in pairs])


def predictions(plain: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return plain(images).argmax(dim=1)
