"""The small network with its images, and the runs that several tests read."""

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
from torch import Tensor, nn

from editable.callbacks.rewrite import shown
from editable.callbacks.site.moment import MomentSettings
from tests.callbacks.rewrite.runs import ROUTES, SEVERAL, Run, rule, run, trial_rules
from tests.callbacks.site.dark_and_light import make_network, save_all


@pytest.fixture(scope="package", autouse=True)
def _small_figures() -> Iterator[None]:
    """Figures of a few images: drawing them is most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        for name, number in {"MOST_EXEMPLARS": 2, "MOST_HEAT_MAPS": 4, "MOST_CHANGED": 4}.items():
            patch.setattr(shown, name, number)
        yield


@pytest.fixture(scope="package")
def network() -> nn.Module:
    return make_network()


@pytest.fixture(scope="package")
def before(network: nn.Module) -> dict[str, Tensor]:
    """The network's parameters and buffers before any run."""
    return copy.deepcopy(network.state_dict())


@pytest.fixture(scope="package")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, exemplars with masks of the lower half, a blue texture, and photographs."""
    root = tmp_path_factory.mktemp("rule")
    save_all(root)
    return root


@pytest.fixture(scope="package")
def single(network: nn.Module, before: dict[str, Tensor], root: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A single combination; its second moment is kept in the folder ``moments``."""
    folder = tmp_path_factory.mktemp("single")
    return run(network, root, folder, moment=MomentSettings(cache=str(folder / "moments")))


@pytest.fixture(scope="package")
def several(network: nn.Module, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Several layers, solvers, ranks and strengths, chosen by held-out exemplars and half of the test images."""
    folder = tmp_path_factory.mktemp("several")
    return run(network, root, folder, validation_rule=rule(root, "validation"), **SEVERAL)


@pytest.fixture(scope="package")
def routes(network: nn.Module, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Both routes of the closed form, and fine-tuning, side by side on exemplars that neither make nor choose."""
    folder = tmp_path_factory.mktemp("routes")
    light = rule(root, exemplars=[1, 3, 5])
    return run(network, root, folder, rule=light, trial_rules=trial_rules(root), **ROUTES)
