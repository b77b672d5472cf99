"""Images to be scanned, and scans of them that several tests look at."""

from pathlib import Path

import pytest
from safetensors.torch import save_file

from tests.callbacks.scan.small_scan import TakesMagentaFor, run, write_images


@pytest.fixture(scope="package")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    write_images(folder)
    return folder


@pytest.fixture(scope="package")
def whole(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a scan of a random network, from beginning to end."""
    folder = tmp_path_factory.mktemp("whole")
    run(root, folder)
    return folder


@pytest.fixture(scope="package")
def beside(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a scan of a network that takes magenta for a boat, and of an edited one that takes it for a tram."""
    folder = tmp_path_factory.mktemp("beside")
    save_file(TakesMagentaFor(2).state_dict(), folder / "edited.safetensors")
    settings = {"edited": str(folder / "edited.safetensors"), "target": "boat", "min_found": 5}
    run(root, folder / "run", TakesMagentaFor(0), **settings)
    return folder / "run"
