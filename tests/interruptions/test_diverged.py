"""A fit that diverges ends with a sentence, soon, and what it had saved before stays."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from editable.errors import UserError
from editable.tasks import ClassificationTask
from editable.trainer import EditableTrainer
from tests.mistakes import error_line
from tests.test_cli import DIGITS, QUIET

STEPS = 12


class Spoils(Callback):
    """Puts NaN or infinity into one weight behind a step."""

    def __init__(self, step: int, value: float) -> None:
        self.step, self.value, self.seen = step, value, 0

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seen = trainer.global_step
        if trainer.global_step == self.step:
            with torch.no_grad():
                pl_module.network[1].weight[0, 0] = self.value


def fit(folder: Path, spoils: Spoils, task: type = ClassificationTask, **settings) -> EditableTrainer:
    torch.manual_seed(0)
    images, labels = torch.rand(STEPS * 4, 1, 2, 2), torch.randint(3, (STEPS * 4,))
    trainer = EditableTrainer(
        accelerator="cpu",
        default_root_dir=folder,
        logger=False,
        max_epochs=2,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[spoils, ModelCheckpoint(folder / "saved", every_n_train_steps=2, save_top_k=-1)],
        **settings,
    )
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    trainer.fit(task(network), DataLoader(TensorDataset(images, labels), batch_size=4))
    return trainer


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_it_ends_and_saves_nothing_of_it(value: float, tmp_path: Path):
    spoils = Spoils(5, value)
    sentence = r"training has diverged, within 6 steps: 'network.1.weight' of ClassificationTask has \d+ values of 12"
    with pytest.raises(UserError, match=sentence):
        fit(tmp_path, spoils, log_every_n_steps=1000)
    saved = sorted((tmp_path / "saved").glob("*.ckpt"))
    assert [path.stem.rpartition("=")[2] for path in saved] == ["2", "4"]
    for path in saved:
        weights = torch.load(path, weights_only=True)["state_dict"]
        assert all(some.isfinite().all() for some in weights.values())
    assert not list(tmp_path.rglob("last*"))


def test_it_ends_between_checkpoints_where_the_loss_is_logged(tmp_path: Path):
    spoils = Spoils(3, float("nan"))
    with pytest.raises(UserError, match="training has diverged, within 4 steps"):
        fit(tmp_path, spoils, log_every_n_steps=4, enable_checkpointing=True)
    assert spoils.seen == 4


def test_an_infinite_loss_of_finite_weights_ends_nothing(tmp_path: Path):
    class Skips(ClassificationTask):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            return loss * float("inf") if batch_idx == 3 else loss

        def on_before_optimizer_step(self, optimizer):
            for param in self.parameters():
                param.grad = torch.zeros_like(param)

    trainer = fit(tmp_path, Spoils(-1, 0.0), Skips, log_every_n_steps=1)
    assert trainer.global_step == 2 * STEPS


def test_by_the_command_line(capsys: pytest.CaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    options = [
        "--model.network.width=4",
        "--data.train_limit=200",
        "--model.optimizer=SGD",
        "--model.optimizer.lr=1e30",
    ]
    sentence = error_line(["fit", f"--config={DIGITS}", *QUIET, *options], capsys)
    assert sentence.startswith("error: training has diverged, within ")
    assert sentence.endswith("train with a lower learning rate, or limit gradients by trainer.gradient_clip_val")
    assert not list(tmp_path.rglob("*.ckpt"))
