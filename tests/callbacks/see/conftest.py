"""What tests of `see` share: images with a rule, and one look at the closed form."""

from pathlib import Path

import pytest

from tests.callbacks.see.looks import LONG, Look, make_network, run, save_images, seeing
from tests.quiet_trainer import quiet_trainer


@pytest.fixture(scope="package")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("seeing")
    save_images(root)
    return root


@pytest.fixture(scope="package")
def looked(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Look:
    """Long enough to find something, with two of the rule's three exemplars traced back to features and images."""
    callback = seeing(root, num_exemplars=2, **LONG)
    return run(quiet_trainer, make_network(), root, tmp_path_factory.mktemp("run"), callback)
