"""Evaluations where two processes share the parameters out, and where one has all: ``python -m … <folder>``."""

import json
import sys
from pathlib import Path

import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from editable.callbacks import DrawdownEvaluation, RunReport
from editable.data import DigitsDataModule
from editable.editing import GD, CodebookEditor, Editor, LastLayerRetraining, SamplingSettings
from editable.errors import UserError
from editable.tasks import ClassificationTask
from tests.quiet_trainer import quiet_trainer

HIDDEN, NUM_EDITS = 32, 5
EVALUATIONS = {
    "closed_form": lambda: DrawdownEvaluation(NUM_EDITS, editor=LastLayerRetraining(), editable_layers=["3"]),
    "sampled": lambda: DrawdownEvaluation(
        NUM_EDITS,
        editor=Editor(GD(0.1)),
        editable_layers=["3"],
        sampling=SamplingSettings(forward_passes=300),
    ),
}
REFUSED = {
    "not_last": lambda: DrawdownEvaluation(1, editor=Editor(GD(0.1)), editable_layers=["1"]),
    "several": lambda: DrawdownEvaluation(1, editor=Editor(GD(0.1)), editable_layers=["all"]),
    "codebook": lambda: DrawdownEvaluation(1, editor=CodebookEditor()),
}


class FullyShardedTask(ClassificationTask):
    """FSDP2, as in ``docs/cluster.md``."""

    def configure_model(self):
        mesh = self.device_mesh["data_parallel"]
        for layer in (self.network[1], self.network[3], self.network):
            fully_shard(layer, mesh=mesh)


class TensorParallelTask(ClassificationTask):
    """Each process has half of the hidden neurons, and so half of the columns of the last layer."""

    def configure_model(self):
        plan = {"1": ColwiseParallel(), "3": RowwiseParallel()}
        parallelize_module(self.network, self.device_mesh["tensor_parallel"], plan)


def make_network() -> nn.Module:
    """Train for a moment."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 10))
    data = DigitsDataModule(batch_size=128)
    data.setup("fit")
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for images, labels in data.train_dataloader():
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
    return network


def evaluate(folder: Path, task: ClassificationTask, evaluation: DrawdownEvaluation, **settings) -> None:
    trainer = quiet_trainer(default_root_dir=folder, callbacks=[evaluation, RunReport()], **settings)
    trainer.test(task, DigitsDataModule(batch_size=64), verbose=False)


def by_one(folder: Path) -> None:
    for name, make in EVALUATIONS.items():
        evaluate(folder / name, ClassificationTask(make_network()), make())


def by_two(folder: Path) -> None:
    """Leave figures, which parameters were gathered by us, which are shared out in the end, and what was refused."""
    gathered: list[list[int]] = []
    full_tensor = DTensor.full_tensor

    def seen(tensor: DTensor) -> torch.Tensor:
        gathered.append(list(tensor.shape))
        return full_tensor(tensor)

    DTensor.full_tensor = seen
    sharing = ((FullyShardedTask, "fsdp", (2, 1)), (TensorParallelTask, "tensor", (1, 2)))
    for kind, strategy, sizes in sharing:
        for name, make in {**EVALUATIONS, **REFUSED}.items():
            there, message = folder / strategy / name, ""
            network = make_network()
            gathered.clear()
            try:
                evaluate(there, kind(network), make(), devices=2, strategy=ModelParallelStrategy(*sizes))
            except UserError as error:
                message = str(error)
            held = {name: list(some.to_local().shape) for name, some in network.named_parameters()}
            left = {"gathered": gathered, "held": held, "message": message}
            there.mkdir(parents=True, exist_ok=True)
            (there / f"rank{torch.distributed.get_rank()}.json").write_text(json.dumps(left))


if __name__ == "__main__":
    by_two(Path(sys.argv[1]))
