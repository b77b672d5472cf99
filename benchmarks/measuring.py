"""What the benchmarks with figures share: their options, timing in interleaved rounds, and saving."""

import argparse
import gc
import math
import os
import time
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track

from editable.models.machine.precision import processor
from editable.visualize.drawing import save_figure

SHORT = 0.02  # seconds; what is faster is called several times in a round
LONG = 5.0  # seconds; what is slower is called once, for it averages over enough by itself

Key = TypeVar("Key", bound=Hashable)


def parser(description: str | None, batch_size: int, repeats: int) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = "(default: %(default)s)"
    made.add_argument("--width", type=int, default=64, help=f"channels of the first chain {default}")
    made.add_argument("--size", type=int, default=32, help=f"height and width of the images {default}")
    made.add_argument("--batch-size", type=int, default=batch_size, help=f"images in a batch {default}")
    made.add_argument("--repeats", type=int, default=repeats, help=f"rounds after the one that warms up {default}")
    made.add_argument("--threads", type=int, default=2, help=f"threads on a CPU {default}")
    made.add_argument("--device", default="cpu", help=f"cpu or cuda {default}")
    made.add_argument("--seed", type=int, default=0, help=f"seed of weights and images {default}")
    made.add_argument("--output", type=Path, default=Path("docs/figures"), help=f"folder for figures {default}")
    return made


def interleaved_seconds(
    runs: Mapping[Key, Callable[[], object]], repeats: int, clock: Callable[[], float], console: Console, title: str
) -> dict[Key, list[float]]:
    """Time all runs once in each round.

    The first round warms up. It counts where there is no other, and for long runs, which no later round repeats.
    """
    seconds: dict[Key, list[float]] = {key: [] for key in runs}
    calls: dict[Key, int] = {}
    gc.freeze()  # so that collecting what runs leave behind is fast
    for number, key in track([(number, key) for number in range(repeats + 1) for key in runs], title, console=console):
        gc.collect()
        if number == 0:
            elapsed = seconds_per_call(runs[key], 1, clock)
            calls[key] = 0 if elapsed > LONG else math.ceil(SHORT / max(elapsed, 1e-6))
            if not (calls[key] and repeats):
                seconds[key].append(elapsed)
        elif calls[key]:
            seconds[key].append(seconds_per_call(runs[key], calls[key], clock))
    gc.unfreeze()
    return seconds


def seconds_per_call(run: Callable[[], object], calls: int, clock: Callable[[], float]) -> float:
    start = clock()
    for _ in range(calls):
        run()
    return (clock() - start) / calls


def processor_line() -> str:
    """What the processor can do, to be printed beside figures: bfloat16 and float32 change places between kinds."""
    capability = torch.backends.cpu.get_cpu_capability()
    limits = {name: os.environ[name] for name in ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA") if name in os.environ}
    said = "".join(f", {name}={value}" for name, value in limits.items())
    return f"processor: {processor()} (torch computes with {capability}{said}), threads: {torch.get_num_threads()}"


def wall_clock(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def save(figure: Figure, path: Path, console: Console) -> None:
    save_figure(figure, path)
    console.print(f"figure: {path}")
