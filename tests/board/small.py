"""A board in miniature: handwritten digits, two editors, two protocols, and an untrained network."""

import copy
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file

from editable.models import cifar_resnet

NETWORK = {"num_classes": 10, "width": 4, "layers": [1, 1, 1, 1], "in_channels": 1}

HELD_OUT = {"class_path": "editable.data.HeldOutEdits", "init_args": {"num_reported": 2}}

CONTENT: dict[str, Any] = {
    "candidates": 2,
    "protocols": {
        "independent": {
            "title": "single edits",
            "command": "test",
            "options": {"evaluation": {"num_edits": 2, "image_stride": 9}},
            "search": {"evaluation": {"edits": HELD_OUT, "num_edits": 1}},
        },
        "stream": {
            "title": "mistakes | one by one",
            "command": "stream",
            "options": {"evaluation": {"num_edits": 0}, "stream": {"num_edits": 3}},
            "search": {"stream": {"num_edits": 2, "held_out": 3}},
        },
    },
    "networks": {
        "digits": {
            "title": "digits",
            "network": {"class_path": "editable.models.cifar_resnet", "init_args": NETWORK},
            "weights": "own.safetensors",
            "data": {"class_path": "editable.data.DigitsDataModule"},
            "options": {"stream": {"seed": 1}},
            "names": {"classifier": ["fc"], "chain": ["layer3"]},
        }
    },
    "editors": {
        "gd": {
            "title": "GD",
            "layers": "$chain",
            "editor": {
                "class_path": "editable.editing.Editor",
                "init_args": {
                    "rule": {"class_path": "editable.editing.GD", "init_args": {"learning_rate": 1.0}},
                    "max_steps": 2,
                },
            },
            "search": {"rule.learning_rate": [0.01, 0.1]},
        },
        "rmsprop": {
            "title": "RMSProp",
            "layers": "$classifier",
            "editor": {
                "class_path": "editable.editing.Editor",
                "init_args": {"rule": {"class_path": "editable.editing.RMSProp", "init_args": {"learning_rate": 0.01}}},
            },
        },
    },
}


def content() -> dict[str, Any]:
    """What is in the file; to be changed."""
    return copy.deepcopy(CONTENT)


def write(path: Path, board: dict[str, Any] | None = None) -> Path:
    """Write the file, and the weights into the current folder."""
    path.write_text(yaml.safe_dump(content() if board is None else board, sort_keys=False))
    torch.manual_seed(0)
    weights = cifar_resnet(**{**NETWORK, "layers": (1, 1, 1, 1)}).state_dict()
    save_file(weights, "own.safetensors")
    return path
