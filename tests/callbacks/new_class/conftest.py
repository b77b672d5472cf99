"""Images of a new class, and runs with it that several tests look at."""

from pathlib import Path

import pytest

from tests.callbacks.new_class.small_new_class import Run, run, write_images


@pytest.fixture(scope="package")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders old/train, old/test with two classes, and new/learn, new/judge with the third."""
    folder = tmp_path_factory.mktemp("images")
    write_images(folder)
    return folder


@pytest.fixture(scope="package")
def first_run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One draw with one filter and all baselines."""
    return run(root, tmp_path_factory.mktemp("first"))


@pytest.fixture(scope="package")
def swept(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two draws with three filters each, and a report."""
    folder = tmp_path_factory.mktemp("swept")
    return run(root, folder, num_draws=2, sweep=[0.0, 0.01], components=["red"], report=True)
