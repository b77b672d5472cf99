"""What Lightning takes of a trainer's options and cannot be meant, and what is slower than it need be."""

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import LearningRateFinder
from torch import nn

from editable.errors import UserError
from editable.models import ScoringSettings
from editable.models.machine.precision import PROCESSORS
from editable.starting.requests import check_numbers, check_trainer
from editable.tasks import ClassificationTask
from tests.warned import whatever_is_warned

QUIET = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}


@pytest.mark.parametrize("settings", [{}, {"accumulate_grad_batches": 1, "check_val_every_n_epoch": None}])
def test_numbers_that_can_be_meant(settings: dict):
    check_numbers(settings)


@pytest.mark.parametrize("name", ["accumulate_grad_batches", "check_val_every_n_epoch", "num_nodes"])
def test_numbers_that_cannot(name: str):
    with pytest.raises(UserError, match=f"trainer.{name} must be at least 1, got 0"):
        check_numbers({name: 0})


def test_a_learning_rate_finder_needs_a_rate_to_set():
    trainer = Trainer(callbacks=[LearningRateFinder()], **QUIET)
    task = ClassificationTask(nn.Linear(2, 2))
    with pytest.raises(UserError, match="cannot set the learning rate of ClassificationTask"):
        check_trainer(trainer, task, ScoringSettings())
    task.lr = 0.1  # a task of one's own may have one
    check_trainer(trainer, task, ScoringSettings())


@pytest.mark.no_fake_cuda(reason="is of trainers on the processor")
@pytest.mark.parametrize("kind", [*PROCESSORS, "DEFAULT"])
@pytest.mark.parametrize("scoring", ["full", "bfloat16", "auto"])
@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "32-true", "16-true"])
def test_bfloat16_is_said_to_be_slow_where_the_processor_has_none(
    precision: str, scoring: str, kind: str, monkeypatch: pytest.MonkeyPatch
):
    """With the factor of the table; a kind that was not measured, and has none, is as slow as AVX2."""
    monkeypatch.setattr("editable.models.machine.precision.processor", lambda: kind)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    trainer = Trainer(precision=precision, **QUIET)
    with whatever_is_warned() as caught:
        check_trainer(trainer, ClassificationTask(nn.Linear(2, 2)), ScoringSettings(precision=scoring))
    slow = [str(one.message) for one in caught if "no instructions" in str(one.message)]
    row = PROCESSORS.get(kind, PROCESSORS["AVX2"])
    expected = []
    if kind not in ("AMX", "AVX-512 BF16"):
        expected += [f"{precision}, which"] * precision.startswith("bf16") + ["scoring"] * (scoring == "bfloat16")
    assert len(slow) == len(expected)
    assert all(word in message for word, message in zip(expected, slow, strict=True))
    for message in slow:
        factor = row.scoring if "scoring" in message else row.training
        assert f"measured to take {factor:g} times as long as in float32" in message


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, or --fake-cuda")
@pytest.mark.parametrize("deterministic", [True, "warn", False, None])
def test_what_determinism_costs_on_a_gpu_is_said(deterministic: bool | str | None):
    trainer = Trainer(deterministic=deterministic, **(QUIET | {"accelerator": "gpu", "devices": 1}))
    try:
        with whatever_is_warned() as caught:
            check_trainer(trainer, ClassificationTask(nn.Linear(2, 2)), ScoringSettings())
    finally:
        torch.use_deterministic_algorithms(False)
    said = [str(one.message) for one in caught if "trainer.deterministic is set" in str(one.message)]
    assert len(said) == bool(deterministic)
