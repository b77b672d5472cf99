"""Programs that start processes of their own: in a group, which is ended as a whole where one of them hangs."""

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.paths import ROOT


def run_group(words: Sequence[str], folder: Path, seconds: float) -> None:
    """Run a program in a folder, with this project on its path and a thread for each process; it has to succeed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        words, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        pytest.fail(f"{' '.join(words)} hangs:\n{output.decode()}")
    assert process.returncode == 0, output.decode()
