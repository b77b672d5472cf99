"""Kills of streams at random moments, and whether each resumed one ends bit for bit as an uninterrupted one.

``python -m tests.callbacks.stream.campaign [number of kills of each kind]`` prints the counts. What is compared: all
figures but seconds, and the bytes of the corrected network's weights.
"""

import logging
import os
import random
import signal
import sys
import tempfile
import time
import warnings
from pathlib import Path

from editable.callbacks.stream import unfinished
from editable.editing import StreamEvaluator
from tests.callbacks.stream.streams import figures, make_stream, run
from tests.interruptions.small_fit import in_child, status_of

__all__ = ["killed_and_resumed"]

STATE = unfinished.STATE
KINDS = ("gradient", "minimal harm", "codebook")


def stream(kind: str, **settings):
    return make_stream(kind, {"edited_views": 1}, **settings)


def slow_run(kind: str, folder: Path) -> None:
    """Run a stream, each correction of which takes a moment longer and is written at once."""
    correct = StreamEvaluator.correct

    def slowly(*arguments):
        time.sleep(0.02)
        return correct(*arguments)

    StreamEvaluator.correct = slowly  # type: ignore[method-assign]
    unfinished.SECONDS_BETWEEN_WRITES = 0
    run(stream(kind), folder)


def killed_and_resumed(folder: Path, signum: int, seed: int, kind: str = "minimal harm") -> list[str]:
    """Kill a stream in a process of its own at a random moment and resume it; return what differs from a whole one."""
    moment = random.Random(seed)
    whole, killed, resumed = (folder / f"{kind} {signum} {seed}" / name for name in ("whole", "killed", "resumed"))
    expected = run(stream(kind), whole)
    child = in_child(lambda: slow_run(kind, killed))
    while not (killed / STATE).is_file():
        time.sleep(0.001)
    time.sleep(moment.uniform(0, 0.25))
    os.kill(child, signum)
    status = status_of(child)
    if status == 0:
        return ["it had ended before"]
    if not (killed / STATE).is_file():
        return [] if (killed / "metrics.json").is_file() else ["nothing is left to go on from"]
    found = run(stream(kind, resume=str(killed)), resumed)
    differences = [name for name, value in figures(expected).items() if found.get(name) != value]
    name = "corrected.safetensors"
    return differences + ([] if (whole / name).read_bytes() == (resumed / name).read_bytes() else [name])


def main() -> None:
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    warnings.filterwarnings("ignore")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for signum in (signal.SIGTERM, signal.SIGKILL):
        same, late = 0, 0
        for seed in range(kills):
            with tempfile.TemporaryDirectory() as folder:
                differences = killed_and_resumed(Path(folder), signum, seed, KINDS[seed % len(KINDS)])
            same += not differences
            late += differences == ["it had ended before"]
            if differences:
                print(signal.Signals(signum).name, seed, differences[:5])
        print(f"{signal.Signals(signum).name}: {kills} kills, {same} bit-identical, {late} too late", flush=True)


if __name__ == "__main__":
    main()
