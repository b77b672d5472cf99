"""The searches that tests share: a whole one, and the folder of one that was killed in the middle."""

from pathlib import Path
from typing import NamedTuple

import pytest
from torch import Tensor, nn

from editable.callbacks import LearningRateSearch
from editable.editing import EditEvaluator
from tests.callbacks.search.searches import data_for, interrupted, make_search, run
from tests.tasks.reference import small_network


class Whole(NamedTuple):
    """A search that has run to its end, and what it was on."""

    search: LearningRateSearch
    metrics: dict[str, float]
    folder: Path
    network: nn.Module
    images: Tensor
    labels: Tensor
    num_base_measurements: int


@pytest.fixture(scope="package")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """A search with edits of all 60 validation images, each scored on all of them."""
    network, folder, search = small_network(), tmp_path_factory.mktemp("whole"), make_search()
    images, labels = data_for(network, 60)
    calls: list[int] = []
    measure_base = EditEvaluator.measure_base
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EditEvaluator, "measure_base", lambda *args: calls.append(1) or measure_base(*args))
        metrics = run(search, network, images, labels, folder)
    return Whole(search, metrics, folder, network, images, labels, len(calls))


@pytest.fixture(scope="package")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the same search, killed after two rates."""
    network, folder = small_network(), tmp_path_factory.mktemp("killed")
    interrupted(folder, network, *data_for(network, 60))
    return folder
