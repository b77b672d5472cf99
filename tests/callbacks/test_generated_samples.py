"""Samples of a generator as pictures."""

from pathlib import Path

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader, TensorDataset

from editable.callbacks import GeneratedSamples, RunReport
from editable.models import Discriminator, Generator
from editable.tasks import GenerationTask


def images() -> DataLoader:
    pixels = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return DataLoader(TensorDataset(pixels, torch.zeros(16)), batch_size=8)


def test_samples_go_to_the_runs_folder_to_tensorboard_and_into_the_report(make_trainer, tmp_path: Path):
    torch.manual_seed(0)
    task = GenerationTask(Generator(latent_size=4, width=2), Discriminator(width=2), num_samples=20)
    logger = TensorBoardLogger(tmp_path, name="run")
    trainer = make_trainer(
        max_epochs=2, logger=logger, callbacks=[RunReport(), GeneratedSamples()], num_sanity_val_steps=1
    )
    trainer.fit(task, images(), images())
    folder = Path(logger.log_dir)
    assert sorted(path.name for path in (folder / "samples").iterdir()) == ["epoch_0000.png", "epoch_0001.png"]
    assert "](samples/epoch_0001.png)" in (folder / "report.md").read_text()
    logger.experiment.flush()
    events = EventAccumulator(str(folder))
    events.Reload()
    assert [event.step for event in events.Images("samples")] == [4, 8]  # two optimizers, two batches an epoch
    trainer.test(task, images(), verbose=False)
    assert (folder / "samples" / "test.png").exists()
    assert "](samples/test.png)" in (folder / "report.md").read_text()


def test_a_task_without_samples_is_left_alone(make_trainer, tmp_path: Path):
    plain = type("Plain", (LightningModule,), {"test_step": lambda *_: None})
    make_trainer(callbacks=[GeneratedSamples()]).test(plain(), images(), verbose=False)
    assert not (tmp_path / "run" / "samples").exists()
