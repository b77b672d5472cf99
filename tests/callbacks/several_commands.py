"""Commands in miniature, by one process or by several: ``python -m … <folder> <processes> <command> …``."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from editable.cli import main
from tests.callbacks.small_commands import CONCEPT, EDITOR, FEW, rule, settings

__all__ = ["COMMANDS", "NAMES", "NETWORK", "prepare", "run_commands"]

NAMES = ["a", "b", "c"]
NETWORK: dict[str, Any] = {"layers": [1, 1, 1, 1], "num_classes": 3, "width": 4}
LAYER = "layer3.0.conv1"
EVALUATION = {"num_edits": 0, "editor": EDITOR, "editable_layers": ["layer4"]}
DESCENTS = dict.fromkeys(("key_descent", "feature_descent", "image_descent"), FEW)


def sections_of(command: str) -> dict[str, Any]:
    """Return a command's section of the configuration; rules are written into the working folder."""
    if command == "edit":
        return {"evaluation": EVALUATION}
    if command == "predict":
        return {}
    needs_rule = {
        "rewrite": {"layers": [LAYER], "max_drop": 1.0},
        "see": {"layer": LAYER, "num_exemplars": 3, **DESCENTS},
        "invert": {"layer": LAYER, "held_out": None},
    }
    if command in needs_rule:
        return {command: {"rule": rule(*NAMES), **needs_rule[command]}}
    others: dict[str, dict[str, Any]] = {
        "scan": {"concept": CONCEPT, "min_found": 1},
        "judge": {"concept": CONCEPT, "confusing_share": 0.2, "noise": "b"},
        "manipulate": {"concept": CONCEPT, "out": "made"},
        "new_class": {
            "layer": "layer4.0.conv2",
            "images": "data/images/train/c",
            "test_images": "data/images/test/c",
            "components": ["a", "b"],
            "num_negatives": 3,
            "pool": "train",
            "training": FEW,
            "name": "new",
        },
    }
    return {command: others[command]}


COMMANDS: dict[str, list[str]] = {
    "predict": ["--trainer.precision=64-true"],
    "scan": ["--scan.target=a"],
    "rewrite": [],
    "edit": ["--edit.images=data/images/test/a/0.png", "--edit.labels=b", "--edit.max_drawdown=1"],
    "judge": ["--judge.target=a"],
    "manipulate": [],
    "see": [],
    "invert": [],
    "new_class": [],
}
"""Each with its options."""


def prepare(folder: Path, data: Path) -> None:
    """Make a folder for each command, with its configuration."""
    for command in COMMANDS:
        (folder / command).mkdir(parents=True)
        (folder / command / "data").symlink_to(data)
        os.chdir(folder / command)
        network = {"class_path": "editable.models.cifar_resnet", "init_args": {**NETWORK}}
        content = settings("a", network, "data/weights.safetensors", **sections_of(command))
        Path("config.yaml").write_text(yaml.safe_dump(content))


def run_commands(folder: Path, processes: int, commands: Sequence[str]) -> None:
    """Run commands, each in its folder; several processes share each."""
    several = [f"--trainer.devices={processes}", "--trainer.strategy=ddp"] if processes > 1 else []
    for command in commands:
        os.chdir(folder / command)
        main([command, "--config=config.yaml", *COMMANDS[command], *several])
        if several:
            torch.distributed.destroy_process_group()  # as a command's end does


if __name__ == "__main__":
    run_commands(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
