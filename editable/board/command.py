"""The command ``python train.py board``."""

from collections.abc import Sequence
from functools import partial

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from editable.board.cell import NEW, changed_options, forget, make, num_runs, state_of
from editable.board.page import write_page
from editable.board.plan import Board, Cell
from editable.board.result import Result
from editable.board.run import FailedRun
from editable.board.trade import write_trade
from editable.board.training import train
from editable.command_line.options.board import options
from editable.command_line.shipped import find_shipped
from editable.errors import Interrupted, UserError
from editable.tables import Table

__all__ = ["board"]


def board(args: Sequence[str]) -> None:
    """Run ``python train.py board``.

    Args:
        args: Command line arguments after the subcommand.

    Raises:
        UserError: If the file is no board, a name is none of it, or, after all others are made, cells have failed.
    """
    arguments = options().parse_args(list(args))
    plan, console = Board.read(find_shipped(arguments.board)), Console()
    failed: dict[str, str] = {}
    if not arguments.page_only:
        cells = plan.only(arguments.only)
        wanted, failed = _wanted(cells, arguments.results, arguments.train)
        runs = num_runs((cell for cell, _ in wanted), arguments.results)
        _say(
            console,
            f"of {len(cells)} cells {len(cells) - len(wanted) - len(failed)} are there, {len(wanted)} are to be made "
            f"by {runs} runs, {len(failed)} cannot be made",
        )
        if arguments.dry_run:
            rows = [(cell.name, num_runs([cell], arguments.results), why) for cell, why in wanted]
            console.print(Table(("cell", "runs", "why"), rows).terminal())
        else:
            try:
                failed |= _make(console, wanted, arguments.results, arguments.runs)
            except Interrupted as interrupted:
                interrupted.advice = "the same command"
                raise
    if not arguments.dry_run:
        write = write_trade if plan.page == "trade" else write_page
        number = write(plan, arguments.results, arguments.page)
        _say(console, f"page: {arguments.page}, {number} of {len(plan.cells)} results")
    reasons = {reason: [name for name in failed if failed[name] == reason] for reason in failed.values()}
    for reason, names in reasons.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        _say(console, f"not made: {names[0]}{more}: {reason}")
    if failed and not arguments.dry_run:
        raise UserError(f"{len(failed)} of {len(cells)} cells of the board could not be made, as is told above")


def _wanted(cells: Sequence[Cell], results: str, trains: bool) -> tuple[list[tuple[Cell, str]], dict[str, str]]:
    """Return the cells that are to be made, each with why; and why others cannot be.

    Where weights that can be trained are not there, a result is taken to be that of what was trained.
    """
    wanted, failed = [], {}
    for cell in cells:
        try:
            if trains and cell.made_by and not cell.has_weights:
                path, asked = cell.path(results), cell.asked_without_weights()
                if not path.is_file() or changed_options({**Result.read(path).asked, "weights": None}, asked):
                    wanted.append((cell, NEW))
                continue
            why = state_of(cell, results)
        except UserError as error:
            failed[cell.name] = str(error)
            continue
        if why:
            wanted.append((cell, why))
    return wanted, failed


def _make(console: Console, wanted: Sequence[tuple[Cell, str]], results: str, runs: str) -> dict[str, str]:
    """Make cells, one after the other; return why some have failed."""
    failed: dict[str, str] = {}
    done = 0
    bars = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    with Progress(*bars, TimeElapsedColumn(), TimeRemainingColumn(), console=console, transient=True) as progress:
        task = progress.add_task("runs", total=num_runs((cell for cell, _ in wanted), results))
        for cell, why in wanted:
            number = num_runs([cell], results)
            if why != NEW:
                _say(console, f"made again: {cell.name}: {why}")
            try:
                if not cell.has_weights:
                    progress.update(task, description=f"{cell.network}: training")
                    _say(console, f"trained: {cell.network}: {train(cell, runs)}")
                result = make(cell, runs, results, partial(_show, progress, task, done))
            except (FailedRun, UserError) as error:
                failed[cell.name] = str(error)
                _say(console, f"failed: {cell.name}: {error}")
            else:
                result.write(cell.path(results))
                forget(cell, runs)
                figures = result.figures
                holds, harm = f"{100 * figures.success:.1f} % hold", f"{100 * figures.harm:+.2f} points"
                _say(console, f"made: {cell.name}: {holds}, {harm}, {result.seconds:.0f} s")
            done += number
    return failed


def _show(progress: Progress, task: TaskID, before: int, what: str, number: int) -> None:
    progress.update(task, description=what, completed=before + number)


def _say(console: Console, sentence: str) -> None:
    console.print(sentence, soft_wrap=True, markup=False, highlight=False)
