"""A scheduler's job of two processes: stopped by its signal, requeued once, and resumed bit for bit."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.paths import ROOT
from tests.test_cli import DIGITS, SMALL_DIGITS

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "killpg"), reason="signals groups of processes")]
COMMAND = [
    *(sys.executable, str(ROOT / "train.py"), "fit", f"--config={DIGITS}", *SMALL_DIGITS),
    *(
        "--trainer.accelerator=cpu",
        "--trainer.devices=2",
        "--trainer.max_epochs=3",
        "--trainer.limit_train_batches=1.0",
    ),
    *("--data.batch_size=20", "--data.num_workers=1"),
]
RUNS = Path("runs", "digits", "editable")


class Job:
    """Stands for a scheduler that runs a command as two tasks of a node, each a group of processes of its own."""

    def __init__(self, folder: Path, number: int, *options: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        of_job = {"JOB_ID": number, "JOB_NAME": "fit", "NTASKS": 2, "NTASKS_PER_NODE": 2, "NODEID": 0}
        of_job |= {"JOB_NUM_NODES": 1, "NODELIST": "localhost", "JOB_NODELIST": "localhost"}
        self.tasks = []
        for rank in range(2):
            slurm = {f"SLURM_{name}": str(value) for name, value in {**of_job, "PROCID": rank, "LOCALID": rank}.items()}
            environment = {**os.environ, **slurm, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
            environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            environment["PATH"] = f"{folder / 'bin'}:{os.environ['PATH']}"
            output = (folder / f"{number}-{rank}.out").open("a")
            self.tasks.append(
                subprocess.Popen(
                    [*COMMAND, *options],
                    cwd=folder,
                    env=environment,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )

    def signal(self, signum: int) -> None:
        """Send a signal to all processes of all tasks, as SLURM does: to those that load images, too."""
        for task in self.tasks:
            os.killpg(task.pid, signum)

    def statuses(self) -> list[int]:
        return [task.wait(240) for task in self.tasks]


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    (tmp_path / "bin").mkdir()
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.write_text('#!/bin/sh\necho "$@" >> asked\n')
    scontrol.chmod(0o755)
    return tmp_path


def texts(folder: Path) -> str:
    return "".join(path.read_text() for path in sorted(folder.glob("*.out")))


def test_requeued_and_resumed(cluster: Path):
    waits = ["--trainer.callbacks+=tests.interruptions.waiting.WaitsForSignal", "--trainer.callbacks.step=6"]
    job = Job(cluster, 7, *waits)
    while len(list(cluster.glob("reached-*"))) < 2:
        assert [task.poll() for task in job.tasks] == [None, None], texts(cluster)
        time.sleep(0.05)
    job.signal(signal.SIGUSR1)
    assert job.statuses() == [128 + signal.SIGUSR1, 0], texts(cluster)
    assert (cluster / "asked").read_text() == "requeue 7\n"
    (left,) = (cluster / RUNS / "version_0" / "checkpoints").glob("scheduler-7-*.ckpt")
    saved = torch.load(left, weights_only=True)
    assert (saved["global_step"], saved["epoch"]) == (7, 1)  # in the midst of the second epoch of five steps
    assert texts(cluster).count("interrupted by SIGUSR1") == 1
    assert "Traceback" not in texts(cluster)

    assert Job(cluster, 8).statuses() == [0, 0], texts(cluster)  # another job in the same folder, not interrupted
    assert left.is_file()
    assert Job(cluster, 7, *waits).statuses() == [0, 0], texts(cluster)  # the same command again
    assert not list(cluster.rglob("scheduler-*"))
    ends = [cluster / RUNS / version / "checkpoints" for version in ("version_1", "version_2")]
    whole, resumed = (torch.load(next(folder.glob("*.ckpt")), weights_only=True) for folder in ends)
    assert whole["global_step"] == resumed["global_step"] == 15
    assert all(torch.equal(value, resumed["state_dict"][name]) for name, value in whole["state_dict"].items())
    metrics = [(folder.parent / "metrics.json").read_text() for folder in ends]
    assert metrics[0] == metrics[1]
