"""Kills of small fits at many moments, and whether each resumed one ends bit for bit as an uninterrupted one.

``python -m tests.interruptions.campaign [number of kills of each kind]`` prints the counts; needs root for those on
another file system. What is compared: weights, optimizer's rate, metrics, validations, random state, logger's steps.
"""

import itertools
import logging
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.cli import ReduceLROnPlateau
from torch.optim.lr_scheduler import StepLR

from tests.interruptions.small_fit import NUM_BATCHES, NUM_EPOCHS, Ended, Task, fit, in_child, last_at_each_step
from tests.interruptions.small_fit import status_of as wait_for

FITS: dict[str, dict[str, Any]] = {
    "a validation an epoch": {},
    "two validations an epoch": {"val_check_interval": 0.5},
    "a validation in two epochs": {"check_val_every_n_epoch": 2},
    "no validation": {"limit_val_batches": 0},
    "validations by steps": {"check_val_every_n_epoch": None, "val_check_interval": 4},
    "max_steps": {"max_steps": 9, "max_epochs": -1},
    "accumulated gradients": {"accumulate_grad_batches": 4},
    "accumulated gradients, validations between": {"accumulate_grad_batches": 4, "val_check_interval": 3},
}
TASKS: dict[str, Callable[[], Task]] = {
    "constant rate": Task,
    "rate by epochs": lambda: Task(lr_scheduler=lambda some: StepLR(some, 1)),
    "rate by steps": lambda: Task(lr_scheduler=lambda some: StepLR(some, 2), lr_scheduler_interval="step"),
    "rate by a metric": lambda: Task(
        lr_scheduler=lambda some: ReduceLROnPlateau(some, monitor="train_loss", threshold=10.0, patience=0)
    ),
}
BALLAST = 4_000_000
"""Of 8 bytes: 32 MB, written in some tens of milliseconds."""


def from_everywhere(folder: Path) -> None:
    """Resume from a checkpoint at every place of many kinds of fits."""
    resumed, same, within = 0, 0, 0
    for number, ((kind, settings), (rate, make)) in enumerate(itertools.product(FITS.items(), TASKS.items())):
        places = folder / str(number)
        whole = fit(folder / "whole", save=places, task=make(), **settings)
        for checkpoint in sorted(places.glob("*.ckpt")):
            if int(checkpoint.name[:2]) == whole.steps:
                continue  # nothing is left to train
            difference = fit(folder / "resumed", checkpoint, task=make(), **settings).difference(whole)
            resumed += 1
            same += not difference
            within += "epoch" not in checkpoint.name
            if difference:
                print(f"{kind}, {rate}, {checkpoint.name}: {difference[:5]}")
    print(f"from everywhere: {resumed} resumes, {within} in mid-epoch, {same} bit-identical", flush=True)


def killed(folder: Path, kills: int, signum: int, ballast: int = 0, inside_a_save: bool = False) -> None:
    """Kill a fit in a process of its own at random moments, or inside a save, and resume from its ``last.ckpt``."""
    settings: dict[str, Any] = {"val_check_interval": 0.5}
    whole = fit(folder / "whole", task=Task(ballast), callbacks=[last_at_each_step(folder / "w")], **settings)
    counts = {"kills": 0, "mid-epoch": 0, "bit-identical": 0, "torn": 0, "too late": 0, "status": set()}
    for number in itertools.count():
        if counts["kills"] == kills:
            break
        place = folder / f"{signal.Signals(signum).name}-{number}"
        last = place / "last.ckpt"

        def work(place: Path = place) -> Ended:
            return fit(place / "run", task=Task(ballast), callbacks=[last_at_each_step(place)], **settings)

        child = in_child(work)
        wait_until_half_saved(last) if inside_a_save else wait_a_while(last)
        os.kill(child, signum)
        status = wait_for(child)
        # What a killed writer has begun stays beside: so it was inside a save.
        if status == 0 or (inside_a_save and not list(place.glob(".last-*"))):
            counts["too late"] += 1
            continue
        counts["kills"] += 1
        counts["status"].add(status)
        source = next((place / "run" / "checkpoints").glob("last.ckpt"), last) if signum == signal.SIGTERM else last
        try:
            content = torch.load(source, weights_only=True)
        except Exception:
            counts["torn"] += 1
            continue
        counts["mid-epoch"] += content["global_step"] % NUM_BATCHES != 0
        resumed = fit(
            place / "resumed", source, task=Task(ballast), callbacks=[last_at_each_step(place / "r")], **settings
        )
        difference = resumed.difference(whole) if content["global_step"] < NUM_EPOCHS * NUM_BATCHES else []
        counts["bit-identical"] += not difference
        if difference:
            print(content["global_step"], difference[:5])
        subprocess.run(["rm", "-rf", place], check=True)
    where = "inside a save on another file system" if inside_a_save else "at random moments"
    print(f"{signal.Signals(signum).name} {where}: {counts}", flush=True)


def wait_a_while(last: Path) -> None:
    """Wait until the first step is saved, and then for a random time."""
    while not last.exists():
        time.sleep(0.001)
    time.sleep(random.uniform(0, 0.3))


def wait_until_half_saved(last: Path) -> None:
    """Wait until a checkpoint is there, and after a random time until the next one is half written."""
    wait_a_while(last)
    whole, begun = last.stat().st_size, time.monotonic()
    while time.monotonic() - begun < 5:
        try:
            if any(0 < path.stat().st_size < whole for path in last.parent.glob(".last-*")):
                return
        except FileNotFoundError:
            continue


@contextmanager
def another_file_system(folder: Path) -> Iterator[Path]:
    """Mount one in memory."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1g", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def main() -> None:
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
    random.seed(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        killed(folder, kills, signal.SIGTERM)
        killed(folder, kills, signal.SIGKILL)
        with another_file_system(folder / "memory") as memory:
            killed(memory, max(5, kills // 2), signal.SIGKILL, BALLAST, inside_a_save=True)
        from_everywhere(folder)


if __name__ == "__main__":
    main()
