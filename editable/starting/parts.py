"""What Lightning's callbacks, loggers, profilers and strategies are given, as far as they don't look at it."""

import math
import os
import string
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

import torch
import torch.distributed
from jsonargparse import Namespace
from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BackboneFinetuning, LearningRateFinder
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.utilities.parsing import lightning_hasattr

from editable.errors import UserError

__all__ = ["check_duration", "check_made_parts", "check_parts"]

LEAST = {
    "BackboneFinetuning": {"unfreeze_backbone_at_epoch": 0, "backbone_initial_lr": 0},
    "BatchSizeFinder": {"steps_per_trial": 1, "init_val": 1, "max_trials": 1},
    "LearningRateFinder": {"min_lr": 0, "max_lr": 0, "num_training_steps": 1},
    "EarlyStopping": {"patience": 0},
    "ModelPruning": {"amount": 0},
    "ModelSummary": {"max_depth": -1},
    "RichModelSummary": {"max_depth": -1},
    "StochasticWeightAveraging": {"annealing_epochs": 0},
    "EMAWeightAveraging": {"decay": 0, "update_every_n_steps": 1, "update_starting_at_step": 0},
    "ThroughputMonitor": {"window_size": 2},
    "CSVLogger": {"flush_logs_every_n_steps": 1, "version": 0},
    "TensorBoardLogger": {"max_queue": 0, "flush_secs": 0, "version": 0},
    "AdvancedProfiler": {"line_count_restriction": 0},
    "PyTorchProfiler": {"row_limit": -1},
}
"""Least values of numbers, by class and argument."""
MOST = {"EMAWeightAveraging": {"decay": 1}}
NAMES = ("version",)
"""What may be text instead, to be taken as it is."""
NOT_BY_NAME = ("single_tpu", "single_xla")
"""Strategies that Lightning has names for, but cannot make by them."""


def check_parts(settings: Mapping[str, Any]) -> None:
    """Look at what the classes of the trainer's parts are given, before any of them is made.

    Args:
        settings: The section ``trainer`` of a configuration.

    Raises:
        UserError: If a number is out of its range, a file's name has a brace too many, or a device, a backend, or a
            span of time is none.
    """
    strategy = settings.get("strategy")
    if strategy in NOT_BY_NAME:
        raise UserError(
            f"trainer.strategy is '{strategy}', which cannot be asked for by this name: leave it out, and give "
            "trainer.accelerator and trainer.devices"
        )
    for name, arguments in _given(settings):
        for argument, value in arguments.items():
            where = f"{argument} of {name}"
            _check_number(where, argument, value, LEAST.get(name, {}), MOST.get(name, {}))
            if argument == "device" and isinstance(value, str):
                _check_device(where, value)
            elif argument == "duration" and isinstance(value, Mapping | Namespace):
                check_duration(where, value)
            elif (name, argument) == ("ModelCheckpoint", "filename") and isinstance(value, str):
                _check_format(where, value)
            elif argument == "process_group_backend" and isinstance(value, str):
                _check_backend(where, value)
        if name == "PyTorchProfiler" and arguments.get("emit_nvtx") and not torch.cuda.is_available():
            raise UserError("emit_nvtx of PyTorchProfiler is for NVIDIA's GPUs, and none is there: leave it out")
        amount = arguments.get("amount")
        if name == "ModelPruning" and isinstance(amount, float) and amount > 1:
            raise UserError(
                f"amount of ModelPruning must be a part, up to 1, or a whole number of weights, got {amount}"
            )


def check_made_parts(trainer: Trainer, model: LightningModule) -> None:
    """Look whether the trainer's parts can be meant with this task and in these surroundings.

    Args:
        trainer: Of the run.
        model: Its task.

    Raises:
        UserError: If a callback asks for what the task has not, a logger has no folder, or a scheduler's environment
            was asked for outside of a job.
    """
    name = type(model).__name__
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, LearningRateFinder) and not (
            lightning_hasattr(model, "lr") or lightning_hasattr(model, "learning_rate")
        ):
            raise UserError(
                f"LearningRateFinder cannot set the learning rate of {name}, which its optimizer has "
                "(model.optimizer.lr): leave it out, and compare runs of a few rates"
            )
        if isinstance(callback, BackboneFinetuning) and not hasattr(model, "backbone"):
            raise UserError(
                f"BackboneFinetuning freezes a part of a task that is called backbone, which {name} has not: leave it "
                "out, or give a task that has one"
            )
    if any(isinstance(logger, DummyLogger) for logger in trainer.loggers) and not trainer.fast_dev_run:  # type: ignore[attr-defined]
        raise UserError("trainer.logger is a DummyLogger, which has no folder for a run: give false, or another logger")
    environment = (
        getattr(trainer.strategy, "cluster_environment", None) or trainer._accelerator_connector.cluster_environment
    )
    if isinstance(environment, SLURMEnvironment) and "SLURM_JOB_ID" not in os.environ:
        raise UserError("trainer.plugins has SLURMEnvironment, but this is no job of SLURM: leave it out")


def check_duration(where: str, parts: Any) -> None:
    """Raise a ``UserError`` where a span of time in parts, such as hours, is none."""
    given = dict(parts.items())
    try:
        timedelta(**given)
    except (TypeError, OverflowError) as error:
        raise UserError(f"{where} must be days, hours, minutes and seconds, got {given}") from error


def _given(value: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield name and arguments of each class of Lightning's in a section, wherever it stands."""
    if isinstance(value, Mapping | Namespace):
        path, arguments = value.get("class_path"), value.get("init_args")
        if isinstance(path, str) and path.startswith("lightning."):
            more = value.get("dict_kwargs") or {}
            yield path.rpartition(".")[2], {**dict(vars(arguments) if arguments else {}), **dict(more)}
        for part in (vars(value) if isinstance(value, Namespace) else value).values():
            yield from _given(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _given(part)


def _check_number(where: str, argument: str, value: Any, least: Mapping[str, float], most: Mapping[str, float]) -> None:
    if argument not in least or value is None or (argument in NAMES and isinstance(value, str)):
        return
    low, high = least[argument], most.get(argument, math.inf)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        range_ = f"at least {low}" if high == math.inf else f"from {low} to {high}"
        raise UserError(f"{where} must be a number, {range_}, got {value!r}")


def _check_device(where: str, value: str) -> None:
    try:
        torch.empty(0, device=value)
    except (RuntimeError, AssertionError) as error:  # an AssertionError where torch was built without such devices
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UserError(f"{where} is '{value}', which is not there ({reason})") from error


def _check_format(where: str, value: str) -> None:
    try:
        list(string.Formatter().parse(value))
    except ValueError as error:
        raise UserError(f"{where} is '{value}', which is no pattern such as {{epoch}}-{{step}} ({error})") from error


def _check_backend(where: str, value: str) -> None:
    if not (torch.distributed.is_available() and torch.distributed.is_backend_available(value)):
        raise UserError(f"{where} is '{value}', which this torch has not: leave it out, or give gloo")
