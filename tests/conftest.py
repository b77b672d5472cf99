"""What tests of several rooms share."""

import gc
import os
import sys

# Before torch is imported: small tensors lose more to a second thread than they gain.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.fake_cuda.building import why_not
from tests.fake_cuda.device import fake_cuda, switch_on

gc.disable()  # until all modules are imported: it would look through torch's again and again
pytest_plugins = ["tests.draws"]
FAKE_CUDA = "--fake-cuda"
# Before torch is imported, too. Processes that this one starts, such as pytest-xdist's workers, find it switched on.
if FAKE_CUDA in sys.argv:
    if (_reason := why_not()) is not None:
        pytest.exit(f"{FAKE_CUDA}: {_reason}", returncode=pytest.ExitCode.USAGE_ERROR)
    switch_on(instead_of_cpu=True)

import torch  # noqa: E402
from lightning.pytorch import Trainer  # noqa: E402

from editable.visualize import drawing  # noqa: E402
from tests.quiet_trainer import quiet_trainer  # noqa: E402

# The suite tries few inputs, the same ones each time; HYPOTHESIS_PROFILE=long tries many new ones.
hypothesis.settings.register_profile("suite", max_examples=50, deadline=None, derandomize=True, database=None)
hypothesis.settings.register_profile(
    "long", max_examples=10_000, deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck)
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))

# Torch decides at the first backward pass whether it needs threads for devices. Once `torch.compile` or `torch.export`
# has been used it sees a device, and no process that is forked can differentiate: so it decides before any test.
torch.ones(1, requires_grad=True).sum().backward()
torch.set_warn_always(True)  # not in whichever test comes first


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "run on a CUDA device that computes on the CPU: trainers that ask for the CPU get it (see tests/fake_cuda)"
    parser.addoption(FAKE_CUDA, action="store_true", help=text)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "no_fake_cuda(reason): left out by --fake-cuda, for a reason")
    if config.getoption(FAKE_CUDA) and fake_cuda() is None:
        raise pytest.UsageError(f"{FAKE_CUDA} has to stand on the command line: it acts before torch is imported")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One more than there are processors: some tests wait for processes that they have started, or for a browser."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return count + 1


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)  # by the defaults it takes a tenth of the time of tests
    gc.enable()


def pytest_runtest_setup(item: pytest.Item) -> None:
    marker = item.get_closest_marker("no_fake_cuda")
    if marker is not None and fake_cuda() is not None:
        pytest.skip(f"on the fake device: {marker.kwargs['reason']}")


@pytest.fixture(scope="session", autouse=True)
def _coarse_figures() -> Iterator[None]:
    """Figures are drawn as always, into fewer pixels."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(drawing, "DPI", 50)
        yield


@pytest.fixture
def fine_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """As fine as those of users."""
    monkeypatch.setattr(drawing, "DPI", 150)


MakeTrainer = Callable[..., Trainer]


@pytest.fixture
def make_trainer(tmp_path: Path) -> MakeTrainer:
    """Make a quiet trainer on the CPU that leaves nothing behind and lets edits have gradients."""

    return lambda **settings: quiet_trainer(**{"default_root_dir": tmp_path / "run", **settings})
