"""Processes that ``torchrun`` has started train as those that Lightning starts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT
from tests.test_cli import DIGITS, SMALL_DIGITS


@pytest.mark.slow
def test_torchrun_trains_as_lightning_does(tmp_path: Path) -> None:
    two = ["--trainer.accelerator=cpu", "--trainer.devices=2"]
    words = [str(ROOT / "train.py"), "fit", f"--config={DIGITS}", *SMALL_DIGITS, *two]
    starters = {
        "lightning": [sys.executable],
        "torchrun": [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"],
    }
    metrics = {}
    for name, starter in starters.items():
        (tmp_path / name).mkdir()
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        run = subprocess.run(
            [*starter, *words], cwd=tmp_path / name, env=environment, capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, run.stderr
        (folder,) = (tmp_path / name / "runs" / "digits" / "editable").iterdir()  # one for both processes
        metrics[name] = json.loads((folder / "metrics.json").read_text())
        assert (folder / "checkpoints" / "last.ckpt").is_file()
    assert metrics["torchrun"] == metrics["lightning"]
