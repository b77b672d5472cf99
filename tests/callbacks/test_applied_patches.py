"""A patch is put in for a run on the classes that it was made for."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningDataModule
from torch import nn
from torch.utils.data import TensorDataset

from editable.callbacks import AppliedPatches
from editable.editing import EditPatch, EditRecord
from editable.errors import UserError
from editable.tasks import ClassificationTask
from tests.quiet_trainer import quiet_trainer


def pairs(classes: list[str]) -> LightningDataModule:
    """Four points of the first of two classes."""
    points = TensorDataset(torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64))
    data = LightningDataModule.from_datasets(test_dataset=points)
    data.classes, data.num_classes = classes, 2
    return data


@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true but no accelerator is found")
@pytest.mark.parametrize("known", [["cat", "dog"], None])
def test_classes_in_another_order_are_refused(known: list[str] | None, tmp_path: Path) -> None:
    task = ClassificationTask(nn.Linear(3, 2))
    own = task.network.bias.detach().clone()
    path = tmp_path / "edit.safetensors"
    EditPatch.of(task.network, {"bias": torch.tensor([0.0, 9.0])}, EditRecord(classes=known)).save(path)
    trainer = quiet_trainer(callbacks=[AppliedPatches([str(path)])])
    (metrics,) = trainer.test(task, pairs(["cat", "dog"]), verbose=False)
    assert metrics["test_error"] == 1, "the patch asks for the second class"
    trainer = quiet_trainer(callbacks=[AppliedPatches([str(path)])])
    if known is None:  # as an earlier version has left it
        trainer.test(task, pairs(["dog", "cat"]), verbose=False)
    else:
        with pytest.raises(UserError, match=r"edit.safetensors' was made for .* class 0 is 'cat' there and 'dog'"):
            trainer.test(task, pairs(["dog", "cat"]), verbose=False)
    assert torch.equal(task.network.bias, own)
