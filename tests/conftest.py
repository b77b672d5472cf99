"""What tests of several rooms share."""

import os

# Before torch is imported: small tensors lose more to a second thread than they gain.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest
import torch
from lightning.pytorch import Trainer

from tests.quiet_trainer import quiet_trainer

# The suite tries few inputs, the same ones each time; HYPOTHESIS_PROFILE=long tries many new ones.
hypothesis.settings.register_profile("suite", max_examples=50, deadline=None, derandomize=True, database=None)
hypothesis.settings.register_profile(
    "long", max_examples=10_000, deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck)
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))

# Torch decides at the first backward pass whether it needs threads for devices. Once `torch.compile` or `torch.export`
# has been used it sees a device, and no process that is forked can differentiate: so it decides before any test.
torch.ones(1, requires_grad=True).sum().backward()

MakeTrainer = Callable[..., Trainer]


@pytest.fixture
def make_trainer(tmp_path: Path) -> MakeTrainer:
    """Make a quiet trainer on the CPU that leaves nothing behind and lets edits have gradients."""

    return lambda **settings: quiet_trainer(**{"default_root_dir": tmp_path / "run", **settings})
