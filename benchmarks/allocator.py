"""What a training step costs by how freed memory is kept: as glibc is set, as our commands set it, by another library.

    python benchmarks/allocator.py
    python benchmarks/allocator.py --width 64 --preload libtcmalloc_minimal.so.4

Each step runs in a process of its own, in turn. Seconds are processor time, pages those that a step takes fresh from
the system, MiB the most that the process had.
"""

import argparse
import multiprocessing
import os
import resource
import statistics
import time
from typing import NamedTuple

import torch
from measuring import processor_line
from rich.console import Console
from rich.progress import track
from rich.table import Table
from training_step import ROWS, step_of

from editable.allocator import keep_freed_memory

GLIBC, OURS = "glibc as it is", "as our commands set it"
TIMED = 3  # steps of a process, after the one that warms up


class Cost(NamedTuple):
    """Of one step: processor seconds and fresh pages; and the most that its process had, in MiB."""

    seconds: float
    pages: int
    mebibytes: float


def cost(row: str, keep: bool, options: argparse.Namespace) -> Cost:
    """Measure some steps; to be called in a fresh process."""
    if keep:
        keep_freed_memory()
    torch.set_num_threads(options.threads)
    step = step_of(row, options)
    step()
    pages, start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.process_time()
    for _ in range(TIMED):
        step()
    seconds, used = time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF)
    return Cost(seconds / TIMED, (used.ru_minflt - pages) // TIMED, used.ru_maxrss / 1024)


def in_fresh_process(way: str, row: str, options: argparse.Namespace) -> Cost:
    before = dict(os.environ)
    if way not in (GLIBC, OURS):
        os.environ["LD_PRELOAD"] = way
    try:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return pool.apply(cost, (row, way == OURS, options))
    finally:
        os.environ.clear()
        os.environ.update(before)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = "(default: %(default)s)"
    some = ["plain, float32, channels last", "editable, float32, channels last"]
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=some, help="steps, as in training_step.py")
    parser.add_argument("--preload", nargs="*", default=[], help="libraries in glibc's place, by LD_PRELOAD")
    parser.add_argument("--layer", default="layer3", help=f"which parameters are edited {default}")
    parser.add_argument("--steps", type=int, default=10, help=f"k, the number of updates {default}")
    parser.add_argument("--batch-size", type=int, default=128, help=f"images in a batch {default}")
    parser.add_argument("--width", type=int, default=16, help=f"channels of the first chain {default}")
    parser.add_argument("--size", type=int, default=32, help=f"height and width of the images {default}")
    parser.add_argument("--repeats", type=int, default=3, help=f"rounds, of which the median counts {default}")
    parser.add_argument("--threads", type=int, default=1, help=f"threads {default}")
    parser.add_argument("--seed", type=int, default=0, help=f"seed of weights and images {default}")
    parser.set_defaults(device="cpu")
    return parser.parse_args()


def main() -> None:
    """Time all, and print the table."""
    options, console = parse(), Console()
    torch.set_num_threads(options.threads)
    ways = [GLIBC, OURS, *options.preload]
    found: dict[tuple[str, str], list[Cost]] = {(row, way): [] for row in options.rows for way in ways}
    for _ in track(range(options.repeats), "rounds", console=console):
        for (row, way), costs in found.items():
            costs.append(in_fresh_process(way, row, options))
    table = Table("step", "freed memory", "seconds", "to glibc's", "fresh pages", "MiB")
    for (row, way), costs in found.items():
        seconds, pages, mebibytes = (statistics.median(values) for values in zip(*costs, strict=True))
        alone = statistics.median(some.seconds for some in found[row, GLIBC])
        table.add_row(row, way, f"{seconds:.3f}", f"{seconds / alone:.2f}", f"{pages:.0f}", f"{mebibytes:.0f}")
    console.print(processor_line())
    console.print(table)


if __name__ == "__main__":
    main()
