"""The run that tests of the evaluation share."""

from pathlib import Path
from typing import NamedTuple

import pytest
from torch import Tensor, nn

from editable.callbacks import EvaluatedEdits, RunReport
from editable.tasks import ClassificationTask
from tests.callbacks.drawdown_evaluation.reference import data_for, make_evaluation
from tests.quiet_trainer import quiet_trainer
from tests.tasks.reference import images_and_labels, loader, small_network


class Run(NamedTuple):
    """What a run has left, and what it was on."""

    folder: Path
    results: dict[str, EvaluatedEdits]
    network: nn.Module
    images: Tensor
    labels: Tensor


@pytest.fixture(scope="package")
def fitted_and_tested(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A fit with edits in validation, and then a test with edits; the network has not learnt anything."""
    network = small_network()
    images, labels = data_for(network)
    folder = tmp_path_factory.mktemp("fitted_and_tested")
    evaluation = make_evaluation(val_num_edits=4)
    trainer = quiet_trainer(precision="64-true", default_root_dir=folder, callbacks=[evaluation, RunReport()])
    task = ClassificationTask(network)
    trainer.fit(task, loader(*images_and_labels(16)), loader(images, labels))
    trainer.test(task, loader(images, labels), verbose=False)
    return Run(folder, evaluation.results, network, images, labels)
