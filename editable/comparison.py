"""Runs side by side: a table and a figure of what edits cost, from what each run left in its folder."""

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from editable.atomic import write_atomically
from editable.command_line.options.compare import options
from editable.data import EditStream, NaturalMistakeEdits, TableEdits
from editable.errors import UserError
from editable.tables import Table
from editable.text_files import read_json, require_file
from editable.visualize import plot_comparison

__all__ = ["EvaluatedRun", "compare", "compare_runs"]

NORMAL_QUANTILE = 1.959964  # 97.5 %, for an interval of 95 %
COLUMNS = ("run", "test error, %", "drawdown, points", "success, %", "steps", "generality, %", "edits")


FIGURES = ("drawdown", "success_rate", "num_steps")
"""Figures that a run has by names that tell which kind of edits they are of."""

KINDS = {
    EditStream.metric_prefix: "random labels",
    TableEdits.metric_prefix: "a table's edits",
    NaturalMistakeEdits.metric_prefix: "mistakes",
}
"""Each kind of edits by what stands before the names of its figures."""


@dataclass(frozen=True)
class EvaluatedRun:
    """What a run of ``test`` found out about edits; rates are fractions.

    Attributes:
        test_error: Error rate of the unedited network on all test images.
        drawdown: Mean over edits of the change of error rate.
        half_width: Half-width of the 95 % interval around ``drawdown`` for the mean over all edits that might have been
            asked for: 1.96 standard errors of the mean over those that were; it contains the noise of sampled images.
        success_rate: Share of successful edits.
        num_steps: Mean number of steps.
        generality: Success rate on other views of the edited inputs; none where no views were looked at.
        num_edits: Number of edits.
        kind: Which edits they are: ``random labels``, ``a table's edits`` or ``mistakes``.
    """

    test_error: float
    drawdown: float
    half_width: float
    success_rate: float
    num_steps: float
    generality: float | None
    num_edits: int
    kind: str

    @classmethod
    def read(cls, folder: str | Path) -> "EvaluatedRun":
        """Read ``metrics.json`` and ``edits.csv`` from a run's log folder.

        Raises:
            UserError: If there is no evaluated run in the folder.
        """
        folder = Path(folder).expanduser()
        try:
            metrics = read_json(folder / "metrics.json")
            kind = next((some for some in KINDS if f"{some}drawdown" in metrics), NaturalMistakeEdits.metric_prefix)
            require_file(folder / "edits.csv")
            with (folder / "edits.csv").open(newline="", encoding="utf-8") as file:
                drawdowns = np.array([float(row["drawdown"]) for row in csv.DictReader(file)])
            numbers = [metrics[name] for name in ("test_error", *(f"{kind}{some}" for some in FIGURES))]
            numbers += [metrics[name] for name in (f"{kind}generality",) if metrics.get(name) is not None]
            if not all(isinstance(some, int | float) for some in numbers):
                raise ValueError(f"the figures {numbers}")
            spread = drawdowns.std(ddof=1) if len(drawdowns) > 1 else float("nan")
            return cls(
                float(metrics["test_error"]),
                float(metrics[f"{kind}drawdown"]),
                NORMAL_QUANTILE * float(spread) / len(drawdowns) ** 0.5,
                float(metrics[f"{kind}success_rate"]),
                float(metrics[f"{kind}num_steps"]),
                metrics.get(f"{kind}generality"),
                len(drawdowns),
                KINDS[kind],
            )
        except (FileNotFoundError, NotADirectoryError) as error:
            raise UserError(
                f"'{folder}' is no log folder of a run that evaluated edits in a test: it has no "
                f"{Path(error.filename).name}"
            ) from error
        except UserError:
            raise
        except (KeyError, ValueError, TypeError, ZeroDivisionError, RecursionError) as error:
            missing = f"no {error}" if isinstance(error, KeyError) else "no edits, or figures that are no numbers,"
            raise UserError(f"'{folder}' does not hold the evaluation of edits in a test: {missing} in it") from error

    def cells(self) -> list[str]:
        """Return the run's line of the table, without its name."""
        return [
            f"{100 * self.test_error:.2f}",
            f"{100 * self.drawdown:.2f} ± {100 * self.half_width:.2f}",
            f"{100 * self.success_rate:.1f}",
            f"{self.num_steps:.2f}",
            "" if self.generality is None else f"{100 * self.generality:.1f}",
            str(self.num_edits),
        ]


def compare_runs(folders: Mapping[str, str | Path], path: str | Path, replace: bool = False) -> dict[str, EvaluatedRun]:
    """Draw the figure of some runs, write their table beside it, and print that.

    Args:
        folders: The log folder of each run, by the name that it shall have.
        path: The PNG file; the table, in Markdown, gets the same name with ``.md``.
        replace: Take the place of a figure or table that is there already.

    Returns:
        The runs by name.

    Raises:
        UserError: If a folder holds no evaluated run, two runs have edits of different kinds, the file is no ``.png``,
            or there is a file in one's place.
    """
    path = Path(path).expanduser()
    if path.suffix != ".png":
        raise UserError(f"the figure is written as .png, got '{path}'")
    there = [str(some) for some in (path, path.with_suffix(".md")) if os.path.lexists(some)]
    if there and not replace:
        raise UserError(
            f"'{there[0]}' is there already: choose another --output, or ask for it to be replaced (--replace)"
        )
    runs = {name: EvaluatedRun.read(folder) for name, folder in folders.items()}
    first = next(iter(runs), "")
    other = next((name for name, run in runs.items() if run.kind != runs[first].kind), None)
    if other is not None:
        raise UserError(
            f"{first!r} was judged by {runs[first].kind} and {other!r} by {runs[other].kind}, whose figures do not "
            "compare: choose runs with edits of one kind (evaluation.edits)"
        )
    generalities = [run.generality for run in runs.values() if run.generality is not None]
    plot_comparison(
        path,
        list(runs),
        [run.test_error for run in runs.values()],
        [run.drawdown for run in runs.values()],
        [run.half_width for run in runs.values()],
        generalities if len(generalities) == len(runs) else None,
    )
    table = Table(COLUMNS, [(name, *run.cells()) for name, run in runs.items()])
    with write_atomically(path.with_suffix(".md")) as temporary:
        temporary.write_text(table.markdown() + "\n", encoding="utf-8")
    console = Console()
    console.print(table.terminal())
    console.print(f"figure: {path}, table: {path.with_suffix('.md')}", soft_wrap=True, markup=False)
    return runs


def compare(args: Sequence[str]) -> None:
    """Run ``python train.py compare``.

    Args:
        args: Command line arguments after the subcommand.

    Raises:
        UserError: If an argument is not ``name=folder``, two have the same name, or as in :func:`compare_runs`.
    """
    arguments = options().parse_args(list(args))
    folders: dict[str, str] = {}
    for run in arguments.runs:
        name, equals, folder = run.partition("=")
        if not (name and equals and folder):
            raise UserError(f"a run to compare is given as name=folder, got {run!r}")
        if name in folders:
            raise UserError(f"two runs to compare are called {name!r}")
        folders[name] = folder
    compare_runs(folders, arguments.output, arguments.replace)
