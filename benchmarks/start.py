"""What a command spends before it begins: processor time until it reads its configuration, to that of Lightning alone.

    python benchmarks/start.py
    python benchmarks/start.py --repeats 9

Each in a process of its own, from its start to its end, in turn; the first round, which writes compiled files, does not
count. A configuration that is missing ends a command once all is imported. Beside it the same modules with the garbage
collector at work, which a command keeps from them, and what is answered without torch, such as ``--help``.
"""

import argparse
import os
import statistics
import subprocess
import sys

from rich.console import Console
from rich.progress import track
from rich.table import Table

LIGHTNING = "Lightning's command line"
STARTS = {
    LIGHTNING: ["-c", "import lightning.pytorch.cli"],
    "a command, to its configuration": ["-m", "editable", "fit", "--config=missing.yaml"],
    "its modules, imported plainly": ["-c", "import editable.running"],
    "import editable": ["-c", "import editable"],
    "editable --help": ["-m", "editable", "--help"],
    "editable fit --modle": ["-m", "editable", "fit", "--modle"],
}


def processor_seconds(arguments: list[str]) -> float:
    """Run Python and return user and system time of the process, in seconds."""
    before = os.times()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def main() -> None:
    """Time all, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="rounds that count (default: %(default)s)")
    repeats = parser.parse_args().repeats
    console = Console()
    seconds: dict[str, list[float]] = {name: [] for name in STARTS}
    for _ in track(range(repeats + 1), "rounds", console=console, transient=True):
        for name, arguments in STARTS.items():
            seconds[name].append(processor_seconds(arguments))
    table = Table("start", "processor time, s", "to Lightning's")
    alone = statistics.median(seconds[LIGHTNING][1:])
    for name, some in seconds.items():
        median = statistics.median(some[1:])
        table.add_row(name, f"{median:.2f}", f"{median / alone:.2f}")
    console.print(table)


if __name__ == "__main__":
    main()
