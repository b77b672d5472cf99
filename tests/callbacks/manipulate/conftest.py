"""What tests of `manipulate` share: images, and a run that is not interrupted."""

from pathlib import Path
from typing import NamedTuple

import pytest

from editable.callbacks import Manipulation
from tests.callbacks.manipulate.runs import run, save_images


class Whole(NamedTuple):
    """A callback that has run, and the folder with its images, ``made``, and its report."""

    callback: Manipulation
    folder: Path


@pytest.fixture(scope="package")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    save_images(folder)
    return folder


@pytest.fixture(scope="package")
def whole(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder = tmp_path_factory.mktemp("whole")
    return Whole(run(root, folder), folder)
