"""A fit ends with its last weights in ``last.ckpt`` of its folder, whatever else saves checkpoints."""

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from tests.interruptions.small_fit import fit

LAST = "checkpoints/last.ckpt"


def assert_is_last(path, ended):
    content = torch.load(path, "cpu", weights_only=True)
    assert content["global_step"] == ended.steps
    for name, value in ended.state.items():
        assert torch.equal(content["state_dict"][name], value)


@pytest.mark.parametrize(
    "settings",
    [
        {"check_val_every_n_epoch": 4},  # no validation at all
        {"max_steps": 8, "max_epochs": -1},  # ends in mid-epoch
        {"limit_val_batches": 0},
    ],
)
def test_alone(tmp_path, settings):
    ended = fit(tmp_path, **settings)
    assert_is_last(tmp_path / LAST, ended)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["last.ckpt"]


def test_beside_one_that_keeps_the_best(tmp_path):
    ended = fit(tmp_path, callbacks=[ModelCheckpoint(monitor="val_error", filename="best")], check_val_every_n_epoch=2)
    assert_is_last(tmp_path / LAST, ended)
    assert (tmp_path / "checkpoints" / "best.ckpt").exists()


@pytest.mark.parametrize("own", [{"save_last": True}, {"filename": "last", "enable_version_counter": False}])
def test_not_again_where_another_has_saved_it(tmp_path, own):
    ended = fit(tmp_path, callbacks=[ModelCheckpoint(tmp_path / "own", **own)])
    assert_is_last(tmp_path / "own" / "last.ckpt", ended)
    assert not (tmp_path / LAST).exists()


def test_but_where_the_others_is_older(tmp_path):
    own = ModelCheckpoint(tmp_path / "own", filename="last", enable_version_counter=False)
    ended = fit(tmp_path, callbacks=[own], check_val_every_n_epoch=2, max_epochs=3)
    assert torch.load(tmp_path / "own" / "last.ckpt", weights_only=True)["epoch"] == 1
    assert_is_last(tmp_path / LAST, ended)


def test_a_fit_with_nothing_left_to_train_has_it_too(tmp_path):
    ended = fit(tmp_path / "first")
    fit(tmp_path / "again", tmp_path / "first" / LAST)
    assert_is_last(tmp_path / "again" / LAST, ended)


def test_none_without_checkpoints(tmp_path):
    fit(tmp_path, enable_checkpointing=False)
    assert not (tmp_path / "checkpoints").exists()
