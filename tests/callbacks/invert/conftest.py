"""What tests of `invert` share: images with a rule, a network, and one study of all methods."""

from pathlib import Path

import pytest
from lightning.pytorch import Trainer
from torch import nn

from tests.callbacks.invert.studies import Study, make_network, rule, run, save_images


@pytest.fixture(scope="package")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("rule")
    save_images(root)
    return root


@pytest.fixture(scope="package")
def network() -> nn.Module:
    return make_network()


@pytest.fixture(scope="package")
def studied(network: nn.Module, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """All methods at three strengths, with held-out images."""
    folder = tmp_path_factory.mktemp("run")
    off = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary", "inference_mode")

    def make_trainer(**settings) -> Trainer:
        return Trainer(accelerator="cpu", devices=1, default_root_dir=folder, **dict.fromkeys(off, False), **settings)

    return run(make_trainer, network, root, held_out=rule(root, "held_out"), strengths=[1, 0, 0.5])
