"""A trainer for fixtures that several tests share, like the fixture ``make_trainer`` for one test."""

from typing import Any

from lightning.pytorch import Trainer

__all__ = ["quiet_trainer"]


def quiet_trainer(**settings: Any) -> Trainer:
    """Return a trainer on the CPU that leaves nothing behind and lets edits have gradients."""
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
    }
    return Trainer(**{**defaults, **settings})
