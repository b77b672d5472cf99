"""A folder of constant images that the tests of this room only read."""

from pathlib import Path

import pytest

from tests.callbacks.site.constant_images import save_images


@pytest.fixture(scope="package")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("constant")
    save_images(root)
    return root
