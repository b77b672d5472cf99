"""What the trainer was asked for, as far as Lightning takes it and it cannot be meant, or costs more than it gains."""

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.callbacks import LearningRateFinder
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.parsing import lightning_hasattr

from editable.errors import UserError
from editable.models import ScoringSettings

__all__ = ["check_numbers", "check_trainer", "has_bfloat16"]

LEAST = {"accumulate_grad_batches": 1, "check_val_every_n_epoch": 1, "log_every_n_steps": 0, "num_nodes": 1}
"""Least values of the trainer's numbers that Lightning doesn't look at, and divides by."""


def check_numbers(settings: Mapping[str, Any]) -> None:
    """Look at the trainer's numbers.

    Args:
        settings: The section ``trainer`` of a configuration.

    Raises:
        UserError: If one is out of its range.
    """
    for name, least in LEAST.items():
        value = settings.get(name)
        if isinstance(value, int | float) and value < least:
            raise UserError(f"trainer.{name} must be at least {least}, got {value}")


def check_trainer(trainer: Trainer, model: LightningModule, scoring: ScoringSettings | None) -> None:
    """Look at a trainer's callbacks, and warn where a precision makes the processor slow.

    Args:
        trainer: Of the run.
        model: Its task.
        scoring: How edited networks are scored, where that is asked for.

    Raises:
        UserError: If the learning rate is to be found of a task that has none to be set.
    """
    finders = any(isinstance(callback, LearningRateFinder) for callback in trainer.callbacks)  # type: ignore[attr-defined]
    if finders and not (lightning_hasattr(model, "lr") or lightning_hasattr(model, "learning_rate")):
        raise UserError(
            f"LearningRateFinder cannot set the learning rate of {type(model).__name__}, which its optimizer has "
            "(model.optimizer.lr): leave it out, and compare runs of a few rates"
        )
    if not isinstance(trainer.accelerator, CPUAccelerator) or has_bfloat16():
        return
    if str(trainer.precision).startswith("bf16"):
        rank_zero_warn(
            f"trainer.precision is {trainer.precision}, which this processor has no instructions for: a training step "
            "was measured to take eight times as long as in float32 there (86 s in place of 10.6 s); take "
            "--trainer.precision=32-true"
        )
    if scoring is not None and scoring.precision == "bfloat16":
        rank_zero_warn(
            "evaluation.scoring.precision is bfloat16, which this processor has no instructions for: scoring was "
            "measured to take about twice as long as the naive procedure in float32 there; take "
            "--evaluation.scoring.precision=full"
        )


def has_bfloat16() -> bool:
    """Return whether the processor has instructions for bfloat16; without them it is emulated."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
