"""A fit goes on from a checkpoint, wherever in an epoch that was made, as an uninterrupted one: bit for bit.

``campaign.py`` has the long version.
"""

import os
import signal

import pytest
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import ReduceLROnPlateau
from torch.utils.data import DataLoader, TensorDataset

from tests.interruptions.campaign import FITS
from tests.interruptions.small_fit import Task, fit, in_child, last_at_each_step, status_of
from tests.warned import whatever_is_warned


def by_a_metric(optimizer):
    return ReduceLROnPlateau(optimizer, monitor="train_loss", threshold=10.0, patience=0)


@pytest.mark.parametrize(
    "kind", ["two validations an epoch", "accumulated gradients, validations between", "max_steps"]
)
def test_resumed_is_as_uninterrupted(tmp_path, kind):
    settings = FITS[kind]
    whole = fit(tmp_path / "whole", save=tmp_path / "places", task=Task(lr_scheduler=by_a_metric), **settings)
    assert len(set(whole.diary.rates.values())) > 1
    places = sorted(some for some in (tmp_path / "places").glob("*.ckpt") if int(some.name[:2]) < whole.steps)
    names = {some.stem[3:].rstrip("0123456789") for some in places}
    assert names == {"step", "validation", "epoch"}
    for place in places[:: 2 if kind == "two validations an epoch" else 3]:
        resumed = fit(tmp_path / "resumed", place, task=Task(lr_scheduler=by_a_metric), **settings)
        assert resumed.difference(whole) == [], place.name
        assert resumed.diary.rates.keys() <= whole.diary.rates.keys()  # no batch is seen again


def test_workers_begin_where_the_trainer_was(tmp_path):
    """And not where they were themselves, which is some batches ahead."""
    whole = fit(tmp_path / "whole")
    fit(tmp_path / "working", save=tmp_path / "places", num_workers=2)
    resumed = fit(tmp_path / "resumed", next((tmp_path / "places").glob("08-step*.ckpt")), num_workers=2)
    assert sorted(resumed.diary.rates) == [8, 9, 10, 11]
    assert resumed.difference(whole) == []


def test_an_ended_fit_goes_on_with_more_epochs(tmp_path):
    whole = fit(tmp_path / "whole", max_epochs=3)
    fit(tmp_path / "short", max_epochs=2)
    longer = fit(tmp_path / "longer", tmp_path / "short" / "checkpoints" / "last.ckpt", max_epochs=3)
    assert longer.difference(whole) == []
    assert sorted(longer.diary.rates) == list(range(12, 18))


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_killed_and_resumed(tmp_path, signum, status):
    """In a process of its own and in the midst of a step; what is gone on from is the state behind a step."""
    whole, steps, run = fit(tmp_path / "whole"), tmp_path / "steps", tmp_path / "run"
    step = Task.training_step

    def interrupting(self, batch, batch_idx):
        if self.global_step == 8:
            os.kill(os.getpid(), signum)
        return step(self, batch, batch_idx)

    def work():
        Task.training_step = interrupting
        fit(run, callbacks=[last_at_each_step(steps)])

    assert status_of(in_child(work)) == status
    last = (steps if signum == signal.SIGKILL else run / "checkpoints") / "last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == (8 if signum == signal.SIGKILL else 9)
    assert fit(tmp_path / "resumed", last).difference(whole) == []


def test_a_signal_breaks_off_a_validation_which_is_made_when_resumed(tmp_path):
    whole = fit(tmp_path / "whole", val_check_interval=0.5, limit_val_batches=3)
    step = Task.validation_step

    def interrupting(self, batch, batch_idx):
        if self.global_step == 3 and batch_idx == 1:
            signal.raise_signal(signal.SIGTERM)
        return step(self, batch, batch_idx)

    def work():
        Task.validation_step = interrupting
        fit(tmp_path / "run", val_check_interval=0.5, limit_val_batches=3)

    assert status_of(in_child(work)) == 143
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    resumed = fit(tmp_path / "resumed", last, val_check_interval=0.5, limit_val_batches=3)
    assert resumed.diary.validations == whole.diary.validations == [3, 6, 9, 12]
    assert resumed.difference(whole) == []


class Plain(LightningModule):
    """A task on a loader of its own."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def training_step(self, batch, batch_idx):
        return self.layer(batch[0]).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_only_loaders_of_ones_own_are_warned_of(tmp_path, make_trainer):
    with whatever_is_warned() as caught:
        fit(tmp_path / "run", save=tmp_path / "places")
        fit(tmp_path / "run", next((tmp_path / "places").glob("*step2.ckpt")))
    assert not [some for some in caught if "not resumable" in str(some.message)]
    loader = DataLoader(TensorDataset(torch.ones(8, 2)), 2)
    steps = last_at_each_step(tmp_path / "plain")
    make_trainer(callbacks=[steps], max_steps=2, enable_checkpointing=True).fit(Plain(), loader)
    with pytest.warns(UserWarning, match="not resumable"):
        make_trainer(max_steps=4).fit(Plain(), loader, ckpt_path=tmp_path / "plain" / "last.ckpt")
