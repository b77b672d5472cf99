"""A cell of the board: constants are chosen by edits that are not reported, and then the reported run is made."""

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from editable.board.plan import Cell, with_constants
from editable.board.result import Candidate, Figures, Result, best_of, commit, surroundings
from editable.board.run import FailedRun, KilledRun, run
from editable.errors import UserError

__all__ = ["NEW", "changed_options", "forget", "make", "num_runs", "state_of"]

NEW = "new"


def num_runs(cells: Iterable[Cell], results: str | Path) -> int:
    """Return how many runs of ``train.py`` cells take: the search that several have in common is made once."""
    number, searches = 0, set()
    for cell in cells:
        search = json.dumps([cell.network, cell.editor, _search_of(cell.asked_without_weights())])
        known = search in searches or _searched_before(cell, results) is not None
        number += 1 + (0 if known else len(cell.candidates))
        searches.add(search)
    return number


def make(cell: Cell, folder: str | Path, results: str | Path, begin: Callable[[str, int], None]) -> Result:
    """Choose the constants of a cell's editor, and make the reported run with them.

    Args:
        cell: What is asked.
        folder: For the runs; those of an interrupted cell are taken up from there.
        results: Of other cells, one of which may have had the very same search.
        begin: Called before each run with what it is, and the number of runs before it.

    Raises:
        FailedRun: If the reported run has failed, or all candidates have, or a signal has ended a run.
        UserError: If the weights are not there.
    """
    asked = cell.asked()
    place = Path(folder) / cell.network / cell.protocol / cell.editor
    version = f"{commit()} {asked['weights']}"
    searched = _searched_before(cell, results)
    number = 0
    if searched is None:
        searched = []
        for number, constants in enumerate(cell.candidates):
            begin(f"{cell.name}: candidate {number + 1} of {len(cell.candidates)}", number)
            try:
                found = run(cell.search_command, with_constants(cell.search, constants), place, version)
                Figures.of(cell.search_command, found.metrics)
                searched.append(Candidate(constants, found.metrics, found.seconds))
            except KilledRun:
                raise  # it was no worse than others
            except (FailedRun, UserError) as error:
                searched.append(Candidate(constants, None, 0.0, str(error)))
        number = len(searched)
        if searched and all(some.failed for some in searched):
            raise FailedRun(f"all {number} candidates have failed, the last one because {searched[-1].failed}")
    figures = [None if some.metrics is None else Figures.of(cell.search_command, some.metrics) for some in searched]
    constants = searched[best_of(figures, cell.success)].constants if searched else {}
    config = with_constants(cell.config, constants)
    begin(f"{cell.name}: the reported run", number)
    found = run(cell.command, config, place, version)
    Figures.of(cell.command, found.metrics)
    return Result(
        cell.network,
        cell.protocol,
        cell.editor,
        cell.titles,
        cell.command,
        found.metrics,
        found.points,
        found.seconds,
        constants,
        searched,
        config,
        asked,
        surroundings(),
    )


def _searched_before(cell: Cell, results: str | Path) -> list[Candidate] | None:
    """Return the candidates of another protocol's result that was searched for by the very same runs, if there is one.

    Raises:
        UserError: If the weights are not there, or a file among the results is none.
    """
    if not cell.candidates:
        return []
    wanted = _search_of(cell.asked_without_weights())
    for path in sorted((Path(results) / cell.network).glob(f"*/{cell.editor}.json")):
        other = Result.read(path)
        if _search_of(other.asked) == wanted and cell.has_weights and other.asked["weights"] == cell.asked()["weights"]:
            return other.searched
    return None


def _search_of(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a search depends on, but for the weights, which take long to be looked at."""
    return {name: asked.get(name) for name in ("search", "search_command", "candidates")}


def forget(cell: Cell, folder: str | Path) -> None:
    """Remove the runs of a cell, whose result is kept."""
    shutil.rmtree(Path(folder) / cell.network / cell.protocol / cell.editor, ignore_errors=True)


def state_of(cell: Cell, results: str | Path) -> str:
    """Return why a cell is to be made: nothing where its result is there, ``NEW``, or what has changed.

    Raises:
        UserError: If the weights are not there, or what lies in the result's place is none.
    """
    path, asked = cell.path(results), cell.asked()
    if not path.is_file():
        return NEW
    changed = changed_options(Result.read(path).asked, asked)
    shown = ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
    return f"options have changed: {shown}" if changed else ""


def changed_options(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return what differs between two that were asked, each as ``name: old → new``."""
    old, new = _flat(before), _flat(after)
    names = [*old, *(name for name in new if name not in old)]
    return [f"{name}: {old.get(name)} → {new.get(name)}" for name in names if old.get(name) != new.get(name)]


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping) and value:
        parts = ((name if key == "init_args" else f"{name}.{key}".lstrip("."), part) for key, part in value.items())
    elif isinstance(value, list | tuple) and value:
        parts = ((f"{name}[{place}]", part) for place, part in enumerate(value))
    else:
        return {name: value}
    return {key: some for where, part in parts for key, some in _flat(part, where).items()}
