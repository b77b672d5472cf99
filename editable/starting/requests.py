"""What the trainer was asked for, as far as Lightning takes it and it cannot be meant, or costs more than it gains."""

import os
import re
from collections.abc import Mapping
from typing import Any

import torch
from jsonargparse import Namespace
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.accelerators import CPUAccelerator, CUDAAccelerator
from lightning.pytorch.utilities import rank_zero_warn

from editable.errors import UserError
from editable.models import ScoringSettings
from editable.models.machine.precision import bfloat16_speed
from editable.starting.parts import check_duration, check_made_parts

__all__ = ["check_numbers", "check_trainer"]

LEAST = {
    "accumulate_grad_batches": 1,
    "check_val_every_n_epoch": 1,
    "gradient_clip_val": 0,
    "log_every_n_steps": 0,
    "min_epochs": 0,
    "min_steps": 0,
    "num_nodes": 1,
    "num_sanity_val_steps": -1,
}
"""Least values of the trainer's numbers that Lightning doesn't look at."""
NUMBERS = re.compile(r"-?\d+|\d+(,\s*\d*)+")
"""How Lightning takes devices in a string; on GPUs it asks Python for the numbers, whatever it is."""
PROCESSES_PER_CORE = 8
"""Nobody means more, and Lightning would start them all."""


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
    if isinstance(settings.get("max_time"), Mapping | Namespace):
        check_duration("trainer.max_time", settings["max_time"])
    devices, most = settings.get("devices"), PROCESSES_PER_CORE * (os.cpu_count() or 1)
    if isinstance(devices, str) and devices != "auto" and not NUMBERS.fullmatch(devices):
        raise UserError(f"trainer.devices is a number, numbers of devices such as [0, 1], or auto, got {devices!r}")
    count = int(devices) if isinstance(devices, str) and devices.isdecimal() else devices
    if isinstance(count, int) and count > most:
        raise UserError(f"trainer.devices must be at most {most}, {PROCESSES_PER_CORE} for each core, got {devices}")


def check_trainer(trainer: Trainer, model: LightningModule, scoring: ScoringSettings | None) -> None:
    """Look at a trainer's parts, and warn where a precision makes the processor slow, or a setting a GPU.

    Args:
        trainer: Of the run.
        model: Its task.
        scoring: How edited networks are scored, where that is asked for.

    Raises:
        UserError: If a part of the trainer cannot be meant with this task, or here.
    """
    check_made_parts(trainer, model)
    if isinstance(trainer.accelerator, CUDAAccelerator) and torch.are_deterministic_algorithms_enabled():
        rank_zero_warn(
            "trainer.deterministic is set, so that runs on this GPU repeat bit by bit: convolutions take cuDNN's "
            "deterministic algorithms and none is chosen by trial, which is slower, by how much depends on network and "
            "card (python benchmarks/device.py --device cuda tells), and an operation that has no deterministic form "
            "ends the run, or with trainer.deterministic=warn is said"
        )
    speed = bfloat16_speed()
    if not isinstance(trainer.accelerator, CPUAccelerator) or speed is None:
        return
    if str(trainer.precision).startswith("bf16") and speed.training > 1:
        rank_zero_warn(
            f"trainer.precision is {trainer.precision}, which this processor has no instructions for: a training step "
            f"was measured to take {speed.training:g} times as long as in float32 there; take --trainer.precision=auto"
        )
    if scoring is not None and scoring.precision == "bfloat16" and speed.scoring > 1:
        rank_zero_warn(
            "evaluation.scoring.precision is bfloat16, which this processor has no instructions for: scoring was "
            f"measured to take {speed.scoring:g} times as long as in float32 there; take "
            "--evaluation.scoring.precision=auto"
        )
