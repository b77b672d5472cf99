"""Mutation testing of the rooms that compute edits and rewrites: ``python -m tests.mutation``.

A mutant is a function with one small mistake, put in by mutmut: an argument left out, ``<`` for ``<=``, another number.
It is killed where a test of its room's mirrored folder fails or never ends, among those that reach the function and are
not slow. The mutants of all rooms are too many to try, so some are drawn, by a seed; the share of all that would be
killed lies in the printed interval (Clopper and Pearson, 95 %).
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from mutmut.mutation.file_mutation import mutate_file_contents
from mutmut.utils.format_utils import get_mutant_name
from scipy.stats import binomtest

from tests.paths import ROOT

ROOMS = ("editing", "rewriting/memory", "rewriting/solvers")
SURVIVED, NOT_REACHED = 0, 33
"""mutmut's exit codes of mutants that no test fails for; every other one is a failure, a crash or an endless loop."""
SETTINGS = """
only_mutate = {files}
pytest_add_cli_args_test_selection = {tests}
"""
"""What a room adds to the last table of pyproject.toml."""
COPIED = ("editable", "tests", "benchmarks", "configs", "docs", "results", "train.py")


class Tried(NamedTuple):
    """Mutants of a room that were tried, by name, and which of them no test has noticed."""

    room: str
    names: list[str]
    survivors: list[str]


def rooms() -> list[str]:
    """Folders below ``editable`` that are mutated, each with a mirrored folder of tests."""
    folders = [folder for top in ROOMS for folder in (ROOT / "editable" / top, *(ROOT / "editable" / top).rglob("*"))]
    found = [str(folder.relative_to(ROOT / "editable")) for folder in folders if folder.is_dir()]
    return sorted(room for room in found if list((ROOT / "tests" / room).glob("test_*.py")))


def mutants(room: str) -> list[str]:
    """Names of all mutants of a room's own files, as mutmut calls them."""
    names = []
    for path in sorted((ROOT / "editable" / room).glob("*.py")):
        made = mutate_file_contents(str(path), path.read_text(encoding="utf-8")).mutant_names
        names += [get_mutant_name(path.relative_to(ROOT), name) for name in made]
    return names


def try_mutants(room: str, names: list[str], folder: Path) -> Tried:
    """Try mutants of a room in a copy of the sources; ``mutmut show NAME`` shows one there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for part in COPIED:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, folder / part)
    files = [str(path.relative_to(ROOT)) for path in (ROOT / "editable" / room).glob("*.py")]
    tests = [str(path.relative_to(ROOT)) for path in sorted((ROOT / "tests" / room).glob("test_*.py"))]
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    settings += SETTINGS.format(files=json.dumps(files), tests=json.dumps(tests))
    (folder / "pyproject.toml").write_text(settings, encoding="utf-8")
    subprocess.run([sys.executable, "-m", "mutmut", "run", "--max-children=1", *names], cwd=folder, check=True)
    codes: dict[str, int | None] = {}
    for path in (folder / "mutants").rglob("*.meta"):
        codes |= json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"]
    tried = [name for name in names if codes.get(name) is not None]
    return Tried(room, tried, [name for name in tried if codes[name] in (SURVIVED, NOT_REACHED)])


def score(tried: list[Tried]) -> str:
    """The share of mutants that were killed, and between which shares that of all mutants lies."""
    number = sum(len(some.names) for some in tried)
    killed = number - sum(len(some.survivors) for some in tried)
    low, high = binomtest(killed, max(number, 1)).proportion_ci()
    return f"{killed} of {number} mutants killed: {killed / max(number, 1):.1%} (95 %: {low:.1%} to {high:.1%})"


def main() -> None:
    """Draw mutants, try them room by room, and print what tests have not noticed."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__.partition("\n")[0])
    parser.add_argument("rooms", nargs="*", metavar="ROOM", help="only these, such as editing/rules; all by default")
    parser.add_argument("--size", type=int, default=250, help="mutants drawn among those of all rooms (250)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (0)")
    options = parser.parse_args()
    if unknown := set(options.rooms) - set(rooms()):
        parser.error(f"{', '.join(sorted(unknown))} is no room: give some of {', '.join(rooms())}")
    population = [(room, name) for room in rooms() for name in mutants(room)]
    drawn = random.Random(options.seed).sample(population, min(options.size, len(population)))
    print(f"{len(drawn)} of {len(population)} mutants, drawn by seed {options.seed}", flush=True)
    done: list[Tried] = []
    for room in options.rooms or rooms():
        if names := sorted(name for its, name in drawn if its == room):
            done.append(try_mutants(room, names, ROOT / "runs" / "mutation" / room.replace("/", "-")))
            print(f"{room}: {score(done[-1:])}", *done[-1].survivors, sep="\n  ", flush=True)
    print(score(done))


if __name__ == "__main__":
    main()
