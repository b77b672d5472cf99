"""What tests of `judge` share: images, an edited network, and runs that several tests read."""

from pathlib import Path
from typing import NamedTuple

import pytest
from safetensors.torch import save_file

from tests.callbacks.judge.runs import Run, make_network, run, save_images


class Reported(NamedTuple):
    """A run with its report."""

    run: Run
    folder: Path


@pytest.fixture(scope="package")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    save_images(folder)
    return folder


@pytest.fixture(scope="package")
def edited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "edited.safetensors"
    save_file(make_network(1).state_dict(), path)
    return path


@pytest.fixture(scope="package")
def judged(root: Path, edited: Path) -> Run:
    """The edited network beside the unedited one, on all three sets."""
    return run(root, edited=str(edited), noise="tram")


@pytest.fixture(scope="package")
def reported(root: Path, edited: Path, tmp_path_factory: pytest.TempPathFactory) -> Reported:
    """The same with a report, and with a single random image, so that no curve can be drawn of it."""
    folder = tmp_path_factory.mktemp("reported")
    return Reported(run(root, folder=folder, edited=str(edited), num_random_images=1), folder)
