"""Processes that load images outlive signals to all, and end with the process that they work for."""

import os
import signal
import subprocess
import sys

import pytest

from editable.data import DigitsDataModule

PROGRAM = """
from editable.data import DigitsDataModule
data = DigitsDataModule(batch_size=8, num_workers=2)
data.setup("fit")
loader = data.train_dataloader()
batches = iter(loader)
next(batches)
print("loaded")
"""


def test_a_program_ends_while_its_loader_is_in_use():
    """Its workers persist, and Python waits for them at its end."""
    program = [sys.executable, "-c", PROGRAM]
    result = subprocess.run(program, capture_output=True, text=True, timeout=120, check=False)
    assert (result.returncode, result.stdout) == (0, "loaded\n"), result.stderr


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no such signal here")
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_signals_to_all_processes_leave_images_coming(signum):
    data = DigitsDataModule(batch_size=8, num_workers=1)
    data.setup("fit")
    batches = iter(data.train_dataloader())
    next(batches)
    (worker,) = batches._workers
    for _ in range(5):
        os.kill(worker.pid, signum)
        next(batches)
    assert worker.is_alive()
    assert len(list(batches)) > 10  # and it is asked to end
