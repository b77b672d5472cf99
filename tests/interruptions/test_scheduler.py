"""A cluster's scheduler ends a fit and starts it again: it goes on, and no other run takes up its checkpoint."""

import json
import os
import signal
import sys

import pytest
import torch

from editable.cli import main
from editable.editing import EditEvaluator
from editable.tasks import ClassificationTask
from tests.interruptions.small_fit import Task, fit, in_child, status_of
from tests.test_cli import CONFIGS, DIGITS, SMALL_DIGITS

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


@pytest.mark.parametrize(("signum", "asked"), [(signal.SIGUSR1, "requeue 7\n"), (signal.SIGTERM, None)])
def test_the_same_job_goes_on(tmp_path, job, monkeypatch, signum, asked):
    runs = tmp_path / "runs"
    assert interrupted(runs / "version_0", signum) == 128 + signum
    assert (job.read_text() if job.exists() else None) == asked
    (left,) = (runs / "version_0" / "checkpoints").glob("scheduler-7-*.ckpt")
    assert not list(tmp_path.glob("*.ckpt"))  # where Lightning's would lie

    monkeypatch.setenv("SLURM_JOB_ID", "8")  # another job, beside
    whole = fit(runs / "version_1")
    assert sorted(whole.diary.rates) == list(range(12))
    assert left.is_file()

    monkeypatch.setenv("SLURM_JOB_ID", "7")
    resumed = fit(runs / "version_2")
    assert sorted(resumed.diary.rates) == [9, 10, 11]
    assert resumed.difference(whole) == []
    assert not list(runs.rglob("scheduler-*"))  # the job is done


def test_a_signal_inside_a_validation(tmp_path, job):
    """It is broken off, made again by the next start, and nothing else is another."""
    settings = {"val_check_interval": 0.5, "limit_val_batches": 3}
    whole = fit(tmp_path / "whole", **settings)
    step = Task.validation_step

    def interrupting(self, batch, batch_idx):
        if self.global_step == 3 and batch_idx == 1:
            signal.raise_signal(signal.SIGUSR1)
        return step(self, batch, batch_idx)

    def work():
        Task.validation_step = interrupting
        fit(tmp_path / "runs" / "version_0", **settings)

    assert status_of(in_child(work)) == 128 + signal.SIGUSR1
    assert job.read_text() == "requeue 7\n"
    assert len(list((tmp_path / "runs" / "version_0" / "checkpoints").glob("scheduler-7-*.ckpt"))) == 1
    resumed = fit(tmp_path / "runs" / "version_1", **settings)
    assert resumed.diary.validations == whole.diary.validations == [3, 6, 9, 12]
    assert resumed.difference(whole) == []
    assert not list(tmp_path.rglob("scheduler-*"))


EDITS = [f"--config={DIGITS}", *SMALL_DIGITS, "--evaluation.edits_at_once=1", "--evaluation.num_edits=4"]


def run_in_child(*arguments):
    """Run a command in a process of its own, which is interrupted by the scheduler in its third edit."""
    make, seen = EditEvaluator._make, []

    def interrupting(*args, **kwargs):
        seen.append(1)
        if len(seen) == 3:
            signal.raise_signal(signal.SIGUSR1)
        return make(*args, **kwargs)

    child = os.fork()
    if not child:
        EditEvaluator._make = interrupting
        try:
            main([*arguments])
        except SystemExit as ended:
            os._exit(ended.code)
        finally:
            os._exit(1)
    return status_of(child)


def test_an_evaluation_goes_on_too(tmp_path, job, monkeypatch):
    """Of edits, by the same command: three edits are kept, and only the others are made."""
    runs = tmp_path / "runs" / "digits" / "editable"
    assert run_in_child("test", *EDITS) == 128 + signal.SIGUSR1
    assert job.read_text() == "requeue 7\n"
    (mark,) = (runs / "version_0").glob("scheduler-7-*")

    made, make = [], EditEvaluator._make
    monkeypatch.setattr(EditEvaluator, "_make", lambda *args, **kwargs: made.append(1) or make(*args, **kwargs))
    monkeypatch.setenv("SLURM_JOB_ID", "8")  # another job, beside: begins anew, and leaves the first one's alone
    main(["test", *EDITS])
    assert len(made) == 4
    assert mark.is_file()

    monkeypatch.setenv("SLURM_JOB_ID", "7")
    made.clear()
    main(["test", *EDITS])
    assert len(made) == 2
    figures = [json.loads((runs / version / "metrics.json").read_text()) for version in ("version_1", "version_2")]
    assert figures[0] == figures[1]
    assert not list(runs.rglob("scheduler-*"))


def fit_in_child(seed, stops):
    """Fit by the command line in a process of its own, which the scheduler interrupts, or not; return its status."""

    def interrupting(self, *args, **kwargs):
        if stops and self.global_step == 1:
            signal.raise_signal(signal.SIGUSR1)
        return step(self, *args, **kwargs)

    step = ClassificationTask.training_step
    child = os.fork()
    if not child:
        ClassificationTask.training_step = interrupting
        sys.argv = ["train.py", "fit", str(seed)]
        options = [f"--seed_everything={seed}", "--trainer.max_epochs=1", "--trainer.limit_val_batches=0"]
        try:
            main(["fit", f"--config={CONFIGS['digits/baseline']}", *SMALL_DIGITS, *options])
        except SystemExit as ended:
            os._exit(ended.code)
        os._exit(0)
    return status_of(child)


@pytest.mark.filterwarnings("ignore:Job 7 has left .* by a command with other arguments")  # in a process of its own
def test_runs_of_one_job_are_told_apart(tmp_path, job):
    """Two seeds one after the other: the second is interrupted, and the first, made again, does not go on from it."""
    runs = tmp_path / "runs" / "digits" / "baseline"
    assert fit_in_child(0, stops=False) == 0
    assert fit_in_child(1, stops=True) == 128 + signal.SIGUSR1
    (left,) = (runs / "version_1" / "checkpoints").glob("scheduler-7-*.ckpt")
    assert fit_in_child(0, stops=False) == 0
    assert left.is_file()
    first, again = (runs / f"version_{number}" / "checkpoints" / "last.ckpt" for number in (0, 2))
    states = [torch.load(path, weights_only=True)["state_dict"] for path in (first, again)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert fit_in_child(1, stops=False) == 0
    assert not list(runs.rglob("scheduler-*"))


@pytest.mark.filterwarnings("ignore:The job could not be started again")  # in a process of its own
def test_a_scheduler_that_does_not_answer_is_told_of(tmp_path, job, monkeypatch):
    (tmp_path / "bin" / "scontrol").write_text("#!/bin/sh\nexit 1\n")
    assert interrupted(tmp_path / "version_0", signal.SIGUSR1) == 128 + signal.SIGUSR1
    assert len(list((tmp_path / "version_0" / "checkpoints").glob("scheduler-7-*.ckpt"))) == 1
