"""The page of what training for edits costs: test error against drawdown, made of the results alone."""

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

from editable.atomic import write_atomically
from editable.board.page import made_on, missing, words
from editable.board.plan import Board
from editable.board.result import Result, read_results
from editable.tables import Table
from editable.visualize import plot_trade

__all__ = ["trade_page_of", "write_trade"]

COLUMNS = (
    "training",
    "edited by",
    "networks",
    "test error, %",
    "drawdown, points",
    "success, %",
    "views, %",
    "steps",
    "constants",
)
INTRODUCTION = """# {title}

<!-- made by python train.py board --page_only; do not change it by hand -->

On this page you see what training for edits costs a network, and what it saves its edits, beside a better metric for
nothing.

Networks that were trained alike but for what is in the first column, each from several seeds, edited one edit at a
time. `{source}` says what is here, and `<network>/<protocol>/<editor>.json` below `{results}` has each outcome whole.

```
python train.py board --board {source} --results {results} --page {page} --train
```

trains what is not trained, measures what is missing and makes this page; it goes on after an interruption, and `--only`
with names makes a part. **Test error**: of the unedited network. **Drawdown**: rise of the error rate by one edit, in
the mean. **Success**: edits that arrive. **Views**: further views of edited images that have the label asked for. Means
over networks; ± is the standard deviation among them. Constants of the editor were chosen for each network by edits
that are not reported: the least harm among those by which {success} % succeed.
"""


def write_trade(board: Board, results: str | Path, path: str | Path) -> int:
    """Write the page, and its figure beside it where there are results.

    Args:
        board: What is on it.
        results: Folder of the results.
        path: The page, a file in Markdown; the figure has its name.

    Returns:
        The number of results.

    Raises:
        UserError: If a file among the results is none.
    """
    found, path = read_results(results), Path(path)
    with write_atomically(path) as temporary:
        temporary.write_text(trade_page_of(board, found, results, path), encoding="utf-8")
    if found:
        points = [
            (one.titles[0], one.titles[2], one.figures.error_before, one.figures.harm, board.holds(one.figures.success))
            for some in _groups(board, found)
            for one in some
        ]
        plot_trade(path.parent / "figures" / f"{path.stem}.png", points)
    return len(found)


def trade_page_of(board: Board, found: Sequence[Result], results: str | Path, path: str | Path) -> str:
    """Return the page in Markdown.

    Args:
        board: What is on it.
        found: The results.
        results: Their folder.
        path: Of the page.
    """
    texts = {"title": board.title, "source": board.source, "results": results, "page": path}
    sections = [INTRODUCTION.format_map(texts | {"success": f"{100 * board.success:g}"}), missing(board, found)]
    if found:
        sections += [
            f"![Test error against drawdown](figures/{Path(path).stem}.png)\n\n"
            f"Filled: at least {100 * board.success:g} % succeed.{_sampled(found)}",
            Table(COLUMNS, [_row(some) for some in _groups(board, found)]).markdown(),
            "## Made on",
            made_on(found),
        ]
    return "\n\n".join(section.strip("\n") for section in sections) + "\n"


def _sampled(found: Iterable[Result]) -> str:
    """Say how well the drawdown of each network is known, where images were sampled."""
    widths = [one.figures.half_width for one in found if one.figures.half_width is not None]
    return f" The drawdown of each network is known to ± {100 * max(widths):.2f} points (95 %)." if widths else ""


def _groups(board: Board, found: Iterable[Result]) -> list[list[Result]]:
    """Return the results of networks with one title by one editor, in the order of the board."""
    order = {(cell.titles[0], cell.titles[2]): place for place, cell in reversed(list(enumerate(board.cells)))}
    groups: dict[tuple[str, str], list[Result]] = {}
    for some in found:
        groups.setdefault((some.titles[0], some.titles[2]), []).append(some)
    return [groups[key] for key in sorted(groups, key=lambda key: (order.get(key, len(board.cells)), key))]


def _row(some: Sequence[Result]) -> list[str]:
    figures = [one.figures for one in some]
    constants = dict.fromkeys(words(one.constants) for one in some)
    return [
        some[0].titles[0],
        some[0].titles[2],
        str(len(some)),
        _mean([one.error_before for one in figures], 2),
        _mean([one.harm for one in figures], 2),
        _mean([one.success for one in figures], 1),
        _mean([one.generality for one in figures], 1),
        _mean([one.metrics.get("num_steps") for one in some], 2, 1),
        "; ".join(constants),
    ]


def _mean(values: Sequence[float | None], digits: int, scale: float = 100) -> str:
    """Return the mean of those that are there, and their standard deviation where there are several."""
    there = [scale * value for value in values if value is not None]
    if not there:
        return ""
    spread = f" ± {statistics.stdev(there):.{digits}f}" if len(there) > 1 else ""
    return f"{statistics.mean(there):.{digits}f}{spread}"
