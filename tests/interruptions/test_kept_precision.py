"""A fit keeps the precision that it was begun in, or says that it does not."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch.accelerators import CPUAccelerator
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from editable.tasks import ClassificationTask
from editable.trainer import EditableTrainer
from tests.command_line.parsing import parsed
from tests.paths import CONFIGS
from tests.warned import whatever_is_warned

QUIET = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}


def loader() -> DataLoader:
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.randn(16, 4, generator=generator), torch.randint(3, (16,), generator=generator)
    return DataLoader(TensorDataset(images, labels), batch_size=4)


class Task(ClassificationTask):
    """Notes the data type of its logits, and draws nothing."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)))
        self.seen: set[torch.dtype] = set()
        self.network[2].register_forward_hook(lambda module, inputs, output: self.seen.add(output.dtype))


def on(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("editable.models.machine.precision.processor", lambda: kind)


def fit(folder: Path, precision: str, epochs: int, **options: str) -> tuple[Task, EditableTrainer, list[str]]:
    """Train so many epochs in all; return the task, the trainer, and what was said of precisions."""
    task = Task()
    with whatever_is_warned() as caught:
        trainer = EditableTrainer(
            precision=precision, max_epochs=epochs, num_sanity_val_steps=0, default_root_dir=str(folder), **QUIET
        )
        trainer.fit(task, train_dataloaders=loader(), **options)
    return task, trainer, [str(one.message) for one in caught if "checkpoint was trained in" in str(one.message)]


@pytest.mark.parametrize(
    ("kind", "precision"), [("AMX", "bf16-mixed"), ("AVX-512 BF16", "bf16-mixed"), ("AVX-512", "32-true")]
)
def test_auto_is_what_the_processor_is_fastest_in(
    kind: str, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    on(kind, monkeypatch)
    task, trainer, said = fit(tmp_path, "auto", 1)
    assert trainer.precision == precision
    assert task.seen == {torch.bfloat16 if precision == "bf16-mixed" else torch.float32}
    assert not said
    (checkpoint,) = tmp_path.rglob("last.ckpt")
    assert torch.load(checkpoint, weights_only=True)["precision"] == precision


@pytest.mark.parametrize(("first", "then"), [("AVX-512 BF16", "AVX2"), ("AVX2", "AVX-512 BF16")])
def test_auto_goes_on_as_it_began_on_another_processor(
    first: str, then: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Bit for bit as on one processor, and with a word."""
    on(first, monkeypatch)
    whole, trainer, _ = fit(tmp_path / "whole", "auto", 2)
    fit(tmp_path / "half", "auto", 1)
    (checkpoint,) = (tmp_path / "half").rglob("last.ckpt")
    on(then, monkeypatch)
    task, resumed, said = fit(tmp_path / "rest", "auto", 2, ckpt_path=str(checkpoint))
    assert resumed.precision == trainer.precision
    assert task.seen == whole.seen
    for name, value in whole.state_dict().items():
        assert torch.equal(value, task.state_dict()[name]), name
    (sentence,) = said
    assert f"was trained in {trainer.precision}, and is gone on with in that" in sentence


def test_a_precision_that_is_asked_for_is_kept_and_said(tmp_path: Path):
    fit(tmp_path / "half", "bf16-mixed", 1)
    (checkpoint,) = (tmp_path / "half").rglob("last.ckpt")
    task, trainer, said = fit(tmp_path / "rest", "32-true", 2, ckpt_path=str(checkpoint))
    assert trainer.precision == "32-true"
    assert task.seen == {torch.float32}
    (sentence,) = said
    assert "trained in bf16-mixed, and is gone on with in 32-true" in sentence
    assert "take --trainer.precision=bf16-mixed to keep it" in sentence
    _, _, said = fit(tmp_path / "same", "bf16-mixed", 2, ckpt_path=str(checkpoint))
    assert not said


def test_an_older_checkpoint_says_nothing(tmp_path: Path):
    fit(tmp_path / "half", "32-true", 1)
    (path,) = (tmp_path / "half").rglob("last.ckpt")
    checkpoint = torch.load(path, weights_only=True)
    del checkpoint["precision"]
    torch.save(checkpoint, tmp_path / "older.ckpt")
    _, _, said = fit(tmp_path / "rest", "32-true", 2, ckpt_path=str(tmp_path / "older.ckpt"))
    assert not said


@pytest.mark.filterwarnings("ignore:trainer.logger is false")
@pytest.mark.parametrize("accelerator", ["auto", "cpu", CPUAccelerator(), None])
def test_the_accelerator_that_lightning_takes_decides(
    accelerator: str | CPUAccelerator | None, monkeypatch: pytest.MonkeyPatch
):
    """There is none but the processor in these tests."""
    on("AVX2", monkeypatch)
    given = {} if accelerator is None else {"accelerator": accelerator}
    assert EditableTrainer(precision="auto", **{**QUIET, "accelerator": "cpu", **given}).precision == "32-true"


@pytest.mark.filterwarnings("ignore:editable.tasks.ClassificationTask takes the place of")
def test_the_command_line_takes_it_and_keeps_the_word():
    assert parsed("fit", "--trainer.precision=auto").trainer.precision == "auto"
    shipped = CONFIGS / "cifar10" / "vit_small" / "baseline.yaml"
    assert parsed("fit", f"--config={shipped}").trainer.precision == "auto"
