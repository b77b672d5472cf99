"""Each command in miniature, by the command line: a folder of tiny images, and a configuration for a small network."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from markdown_it import MarkdownIt
from PIL import Image

from editable.cli import main

__all__ = ["CONCEPT", "EDITOR", "FEW", "make_images", "rule", "run", "settings", "told"]

CONCEPT = {
    "class_path": "editable.rewriting.ConceptReplacement",
    "init_args": {
        "finder": {"class_path": "editable.rewriting.PatchFinder"},
        "stylizer": "editable.data.surroundings",
    },
}
EDITOR = {
    "class_path": "editable.editing.Editor",
    "init_args": {
        "rule": {"class_path": "editable.editing.Adam", "init_args": {"learning_rate": 0.01}},
        "max_steps": 300,
    },
}
FEW = {"num_steps": 2}


def make_images(root: Path, names: Sequence[str]) -> None:
    """Make four training, two validation and two test images of each class in ``images``, and a texture."""
    random = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2), ("test", 2)):
        for name in names:
            (root / "images" / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / "images" / split / name / f"{number}.png")
    (root / "texture.png").symlink_to(root / "images" / "train" / names[0] / "0.png")


def settings(planted: str, network: dict[str, Any], weights: str | None = None, **sections: Any) -> dict[str, Any]:
    """Return a configuration for images in ``data``; all test images have the patch of a class's training images."""
    return {
        "model": {
            "class_path": "editable.tasks.ClassificationTask",
            "init_args": {"network": network, "weights": weights},
        },
        "data": {
            "class_path": "editable.data.ImageFolderDataModule",
            "init_args": {
                "root": "data/images",
                "num_workers": 0,
                "image_size": 16,
                "cue": {
                    "class_path": "editable.data.PlantedPatch",
                    "init_args": {"class_name": planted, "test_share": 1.0},
                },
            },
        },
        "evaluation": {"num_edits": 0},
        "trainer": {
            "accelerator": "cpu",
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "logger": {
                "class_path": "lightning.pytorch.loggers.CSVLogger",
                "init_args": {"save_dir": "runs", "name": "run"},
            },
        },
        **sections,
    }


def run(command: str, content: dict[str, Any], *options: str) -> Path:
    """Run a command; return its folder. Names stand in the configuration as PyYAML writes them."""
    Path("config.yaml").write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    main([command, "--config=config.yaml", *options])
    return max(Path("runs", "run").iterdir(), key=lambda folder: int(folder.name.partition("_")[2]))


def rule(*names: str) -> dict[str, Any]:
    """Write a rule of one outlined test image of each class."""
    masks = [{"image": f"{name}/1.png", "box": [0, 8, 16, 16]} for name in names]
    Path("masks.json").write_text(json.dumps({"masks": masks}), encoding="utf-8")
    return {
        "class_path": "editable.data.RewriteRule",
        "init_args": {"masks": "masks.json", "root": "data/images/test", "texture": "data/texture.png"},
    }


def told(folder: Path) -> str:
    """Return the text of a run's report as Markdown shows it."""
    tokens = MarkdownIt("commonmark").enable("table").parse((folder / "report.md").read_text(encoding="utf-8"))
    lines = [token.children or [] for token in tokens if token.type == "inline"]
    return "\n".join("".join(part.content for part in line) for line in lines)
