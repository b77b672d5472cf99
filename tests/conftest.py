"""What tests of several rooms share."""

import os

# Before torch is imported: small tensors lose more to a second thread than they gain.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable
from pathlib import Path

import pytest
from lightning.pytorch import Trainer

MakeTrainer = Callable[..., Trainer]


@pytest.fixture
def make_trainer(tmp_path: Path) -> MakeTrainer:
    """Make a quiet trainer on the CPU that leaves nothing behind and lets edits have gradients."""

    def make(**settings) -> Trainer:
        defaults = {
            "accelerator": "cpu",
            "devices": 1,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "inference_mode": False,
            "num_sanity_val_steps": 0,
            "max_epochs": 1,
            "default_root_dir": tmp_path / "run",
        }
        return Trainer(**{**defaults, **settings})

    return make
