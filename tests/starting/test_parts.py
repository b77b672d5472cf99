"""Lightning's callbacks, loggers, profilers and strategies: what they are given is looked at before they are made."""

import inspect
import warnings

import lightning.pytorch as pl
import pytest
import torch
from jsonargparse import Namespace
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BackboneFinetuning, LearningRateFinder
from lightning.pytorch.loggers.logger import DummyLogger
from torch import nn

from editable.errors import UserError
from editable.starting.parts import LEAST, MOST, check_duration, check_made_parts, check_parts

ROOMS = ("callbacks", "loggers", "profilers", "strategies")


def section(name: str, room: str = "callbacks", **arguments: object) -> Namespace:
    """A section of a trainer with one class, as the parser leaves it."""
    part = Namespace(class_path=f"lightning.pytorch.{room}.{name}", init_args=Namespace(**arguments))
    return Namespace(callbacks=[part])


@pytest.mark.parametrize(("name", "argument"), [(name, argument) for name in LEAST for argument in LEAST[name]])
def test_numbers_at_and_below_their_least(name: str, argument: str) -> None:
    least = LEAST[name][argument]
    check_parts(section(name, **{argument: least}))
    check_parts(section(name, **{argument: None}))
    for value in (least - 1, least - 0.5, True, [least]):
        with pytest.raises(UserError, match=f"{argument} of {name} must be a number"):
            check_parts(section(name, **{argument: value}))


@pytest.mark.parametrize("name", sorted({*LEAST, *MOST}))
def test_the_table_names_arguments_that_there_are(name: str) -> None:
    """A class or an argument that Lightning no longer has is found here."""
    kind = next(getattr(room, name) for room in (getattr(pl, room) for room in ROOMS) if hasattr(room, name))
    known = inspect.signature(kind.__init__).parameters
    open_ended = any(some.kind is some.VAR_KEYWORD for some in known.values())
    assert open_ended or {*LEAST.get(name, {}), *MOST.get(name, {})} <= known.keys()


def test_what_is_not_of_lightning_is_left_alone() -> None:
    other = Namespace(class_path="mine.EarlyStopping", init_args=Namespace(patience=-5))
    check_parts(Namespace(callbacks=[other], logger=False, strategy="auto"))
    check_parts({})


def test_parts_inside_parts_and_further_arguments() -> None:
    """Where a class takes any keyword, jsonargparse keeps them apart."""
    logger = Namespace(class_path="lightning.pytorch.loggers.TensorBoardLogger", init_args=Namespace(save_dir="x"))
    logger["dict_kwargs"] = {"flush_secs": "x"}
    with pytest.raises(UserError, match="flush_secs of TensorBoardLogger must be a number, at least 0, got 'x'"):
        check_parts(Namespace(logger=[logger]))
    check_parts(section("TensorBoardLogger", "loggers", version="first"))


def test_devices_and_backends_that_are_there() -> None:
    check_parts(section("WeightAveraging", device="cpu"))
    check_parts(section("DDPStrategy", "strategies", process_group_backend="gloo"))
    check_parts(section("ModelCheckpoint", filename="{epoch}-{val_loss:.2f}", dirpath="a"))


def test_spans_of_time() -> None:
    check_duration("max_time", {"hours": 1, "minutes": 30})
    for wrong in ({"secs": 1}, {"hours": "x"}, {"days": 10**12}):
        with pytest.raises(UserError, match="max_time must be days, hours, minutes and seconds, got"):
            check_duration("max_time", wrong)


class Task(LightningModule):
    def __init__(self, **parts: object) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)


def trainer(**settings: object) -> Trainer:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Trainer(**{"logger": False, "enable_checkpointing": False, "accelerator": "cpu", **settings})


def test_callbacks_that_a_task_has_no_part_for() -> None:
    finder, frozen = trainer(callbacks=[LearningRateFinder()]), trainer(callbacks=[BackboneFinetuning()])
    check_made_parts(finder, Task(lr=0.1))
    check_made_parts(frozen, Task(backbone=nn.Linear(1, 1)))
    with pytest.raises(UserError, match="LearningRateFinder cannot set the learning rate of Task"):
        check_made_parts(finder, Task())
    with pytest.raises(UserError, match="called backbone, which Task has not"):
        check_made_parts(frozen, Task())


def test_a_logger_without_a_folder() -> None:
    check_made_parts(trainer(logger=DummyLogger(), fast_dev_run=True), Task())
    with pytest.raises(UserError, match="DummyLogger, which has no folder"):
        check_made_parts(trainer(logger=DummyLogger()), Task())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_marks_for_a_gpu_that_is_not_there() -> None:
    with pytest.raises(UserError, match="emit_nvtx of PyTorchProfiler is for NVIDIA's GPUs"):
        check_parts(section("PyTorchProfiler", "profilers", emit_nvtx=True))
