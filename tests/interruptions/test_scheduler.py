"""A cluster's scheduler ends a fit and starts it again: it goes on, and no other run takes up its checkpoint."""

import os
import signal

import pytest

from tests.interruptions.small_fit import Task, fit, in_child, status_of

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks the job")


@pytest.fixture
def job(tmp_path, monkeypatch):
    """Make this process one of a job of SLURM, whose ``scontrol`` notes what it is asked; return its notes."""
    notes, programs = tmp_path / "asked", tmp_path / "bin"
    programs.mkdir()
    (programs / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {notes}\n')
    (programs / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    for name, value in {"JOB_ID": 7, "NTASKS": 1, "JOB_NAME": "fit", "NODEID": 0, "LOCALID": 0, "PROCID": 0}.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    monkeypatch.chdir(tmp_path)
    return notes


def interrupted(folder, signum):
    step = Task.training_step

    def interrupting(self, batch, batch_idx):
        if self.global_step == 8:
            signal.raise_signal(signum)
        return step(self, batch, batch_idx)

    def work():
        Task.training_step = interrupting
        fit(folder)

    return status_of(in_child(work))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("signum", "asked"), [(signal.SIGUSR1, "requeue 7\n"), (signal.SIGTERM, None)])
def test_the_same_job_goes_on(tmp_path, job, monkeypatch, signum, asked):
    runs = tmp_path / "runs"
    assert interrupted(runs / "version_0", signum) == 128 + signum
    assert (job.read_text() if job.exists() else None) == asked
    left = runs / "version_0" / "checkpoints" / "scheduler-7.ckpt"
    assert left.is_file()
    assert not list(tmp_path.glob("*.ckpt"))  # where Lightning's would lie

    monkeypatch.setenv("SLURM_JOB_ID", "8")  # another job, beside
    whole = fit(runs / "version_1")
    assert sorted(whole.diary.rates) == list(range(12))
    assert left.is_file()

    monkeypatch.setenv("SLURM_JOB_ID", "7")
    resumed = fit(runs / "version_2")
    assert sorted(resumed.diary.rates) == [9, 10, 11]
    assert [some for some in resumed.difference(whole) if some != "random"] == []
    assert not list(runs.rglob("scheduler-*"))  # the job is done


@pytest.mark.filterwarnings("ignore")
def test_a_scheduler_that_does_not_answer_is_told_of(tmp_path, job, monkeypatch):
    (tmp_path / "bin" / "scontrol").write_text("#!/bin/sh\nexit 1\n")
    assert interrupted(tmp_path / "version_0", signal.SIGUSR1) == 128 + signal.SIGUSR1
    assert (tmp_path / "version_0" / "checkpoints" / "scheduler-7.ckpt").is_file()
