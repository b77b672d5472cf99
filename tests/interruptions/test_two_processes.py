"""With two processes a signal to either ends both, and one that refuses ends the other with a sentence."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.paths import ROOT
from tests.test_cli import DIGITS, QUIET

OPTIONS = [
    f"--config={DIGITS}",
    *QUIET,
    "--trainer.accelerator=cpu",
    "--trainer.devices=2",
    "--trainer.strategy=ddp",
    "--evaluation.edits_at_once=1",
]
LONG = ["--evaluation.num_edits=359", "--evaluation.generality_views=2000"]
pytestmark = pytest.mark.slow


def start(folder: Path, command: str, *options: str) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, str(ROOT / "train.py"), command, *OPTIONS, *options]
    return subprocess.Popen(
        arguments, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def child_of(process: subprocess.Popen) -> int:
    """Return the second process of a run, once there is one that knows what to do with a signal."""
    while process.poll() is None:
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                status, environment = (folder / "status").read_text(), (folder / "environ").read_bytes()
            except OSError:  # it has ended meanwhile
                continue
            caught = int(status.partition("SigCgt:\t")[2][:16] or "0", 16)
            is_second = f"\nPPid:\t{process.pid}\n" in status and b"\0LOCAL_RANK=1\0" in environment
            if is_second and caught >> (signal.SIGTERM - 1) & 1:
                return int(folder.name)
        time.sleep(0.1)
    raise AssertionError(process.communicate()[0])


def wait_until_under_way(process: subprocess.Popen, folder: Path, command: str) -> None:
    under_way = "evaluation*.safetensors" if command == "test" else "events.out.tfevents*"
    while not list(folder.rglob(under_way)):  # a test has kept its first edits
        assert process.poll() is None
        time.sleep(0.1)
    time.sleep(6 if command == "fit" else 0)


def is_zombie(number: int) -> bool:
    return "\nState:\tZ" in Path("/proc", str(number), "status").read_text()


def last_lines(process: subprocess.Popen) -> list[str]:
    output, _ = process.communicate(timeout=300)
    assert "Traceback" not in output, output
    return [line for line in output.splitlines() if line.startswith(("error:", "interrupted"))]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
@pytest.mark.parametrize(
    ("who", "command", "options", "file", "advice"),
    [
        ("second", "fit", ["--trainer.max_epochs=1000"], "version_0/checkpoints/last.ckpt", "--ckpt_path"),
        ("first", "test", LONG, "version_0", "--evaluation.resume"),
    ],
)
def test_one_signal_ends_both(tmp_path, who, command, options, file, advice):
    process = start(tmp_path, command, *options)
    child = child_of(process)
    wait_until_under_way(process, tmp_path, command)
    os.kill(process.pid if who == "first" else child, signal.SIGTERM)
    place = Path("runs", "digits", "editable", file)
    assert last_lines(process) == [f"interrupted by SIGTERM: go on with {advice} {place}"]
    assert process.returncode == 143
    assert (tmp_path / place).exists()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
@pytest.mark.parametrize(("command", "who"), [("fit", "first"), ("test", "second")])
def test_one_that_is_killed_ends_the_other_within_seconds(tmp_path, command, who):
    """In a test, while neither waits for the other, and what was done of it is kept."""
    options = ["--trainer.max_epochs=1000"] if command == "fit" else list(LONG)
    process = start(tmp_path, command, *options)
    child = child_of(process)
    wait_until_under_way(process, tmp_path, command)
    os.kill(process.pid if who == "first" else child, signal.SIGKILL)
    began = time.monotonic()
    (line,) = last_lines(process)  # until neither has the pipe any more
    assert time.monotonic() - began < 60
    name = "process 1 of this run was killed by SIGKILL, as the system does where memory is short" * (who == "second")
    name = name or "the first process of this run has ended"
    start_of_line, _, advice = line.partition(": go on with ")
    assert start_of_line == f"error: {name}, and the others cannot go on without it"
    folder = Path("runs", "digits", "editable", "version_0")
    assert advice == ("" if command == "fit" else f"--evaluation.resume {folder}")
    assert process.returncode == (-signal.SIGKILL if who == "first" else 128 + signal.SIGKILL)
    assert not Path("/proc", str(child)).exists() or is_zombie(child)


@pytest.mark.parametrize(("command", "rank"), [("fit", 1), ("test", 0)])
def test_one_that_refuses_ends_both(tmp_path, command, rank):
    refuses = ["--trainer.callbacks+=tests.interruptions.refusing.Refuses", f"--trainer.callbacks.rank={rank}"]
    process = start(tmp_path, command, "--trainer.max_epochs=2", "--model.network.width=4", *refuses)
    lines = last_lines(process)
    assert lines[0] == f"error: process {rank} refuses"
    assert all("process of this run has ended" in line for line in lines[1:]), lines  # whichever is noticed first
    assert process.returncode == 2


def test_a_stream_of_corrections_is_made_by_one(tmp_path):
    process = start(tmp_path, "stream", "--model.network.width=4")
    lines = last_lines(process)
    assert lines[0] == (
        "error: a stream of corrections is made by one process, as each depends on the last: set trainer.devices to 1"
    )
    assert process.returncode == 2
    assert not list(tmp_path.rglob("stream*"))
