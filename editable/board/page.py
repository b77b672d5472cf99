"""The page of the board and its figure, made of the results alone."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from editable.atomic import write_atomically
from editable.board.cell import changed_options
from editable.board.plan import Board
from editable.board.result import Candidate, Result, read_results
from editable.tables import Table, markdown_code, markdown_text
from editable.visualize import plot_board

__all__ = ["made_on", "missing", "page_of", "percent", "ranked", "words", "write_page"]

FIGURE = "figures/board.png"
BUDGET = 0.0025
"""Rise of the error rate that an owner may be ready to pay, a fraction."""
COLUMNS = (
    "editor",
    "hold, %",
    "harm, points",
    "error, %",
    "broken, %",
    "views, %",
    "same kind, %",
    "within budget",
    "same kind then, %",
    "ms an edit",
    "run, s",
    "constants",
    "of",
)
INTRODUCTION = """# The board

<!-- made by python train.py board --page_only; do not change it by hand -->

On this page you find the editor that harms least on a network of the kind of yours, and add one of your own.

Every editor on every network by every protocol. [results/board.yaml](../results/board.yaml) says what is on it, and
`results/<network>/<protocol>/<editor>.json` has each outcome whole: all metrics, the configuration, every constant that
was tried with what came of it, versions, commit and hardware. `python train.py board` makes what is missing and this
page; `--only` with names makes a part, `--dry_run` tells what would be made. Yours is an entry in the file:

```yaml
  my_editor:
    title: Mine
    layers: $chain  # what the network calls so
    editor:
      class_path: my_package.MyEditor
    search:
      strength: [0.1, 1.0, 10.0]
```

**Hold**: edits that have the label asked for, after the last edit of a stream, else each by itself. **Harm**: rise of
the error rate on the judging images, after all edits of a stream, else in the mean over single ones; ± half of a 95 %
interval where images were sampled. **Error**: that rate afterwards. **Broken**: judging images that were right and are
wrong. **Views**: further views of edited images that have the label. **Same kind**: other images that the unedited
network mistakes in the same way as an edited one and that are right now. **Within budget**: the most edits of a stream
up to which its harm is at most {budget} points, among the numbers at which it was judged, and how many mistakes of the
same kind are right **then**. [metrics.md](metrics.md) defines them all.
Editors of which at least {success} % hold come first, by harm; the others follow, by how many hold.

**Constants** are chosen for each editor and network among at most {most} candidates, for single edits and once more
for corrections together or in a stream, by edits that are not reported; mistakes are judged then by images that do not
judge the reported ones. The least harm wins among those by
which {success} % hold, else what holds most often. "Of" is the number that was tried.
"""


def write_page(board: Board, results: str | Path, path: str | Path) -> int:
    """Write the page, and its figure beside it where there are results.

    Args:
        board: What is on it, which tells what is missing.
        results: Folder of the results.
        path: The page, a file in Markdown.

    Returns:
        The number of results.

    Raises:
        UserError: If a file among the results is none.
    """
    found, path = read_results(results), Path(path)
    with write_atomically(path) as temporary:
        temporary.write_text(page_of(board, found), encoding="utf-8")
    if found:
        panels = {
            f"{table[0].titles[0]}: {table[0].titles[1]}": [
                (some.titles[2], some.figures.harm, board.holds(some.figures.success)) for some in table
            ]
            for table in _tables(board, found)
        }
        plot_board(path.parent / FIGURE, panels)
    return len(found)


def page_of(board: Board, results: Sequence[Result]) -> str:
    """Return the page in Markdown."""
    texts = {"success": f"{100 * board.success:g}", "most": board.most, "budget": f"{100 * BUDGET:g}"}
    sections = [INTRODUCTION.format_map(texts), missing(board, results)]
    if results:
        sections.append(
            f"![Harm of every editor]({FIGURE})\n\n"
            f"Filled: at least {texts['success']} % hold; dashed: {texts['budget']} points."
        )
    for table in _tables(board, results):
        before = sorted({f"{100 * some.figures.error_before:.2f}" for some in table})
        numbers = sorted({some.figures.num_edits for some in table})
        title = markdown_text(f"{table[0].titles[0]}: {table[0].titles[1]}")
        said = f"{' or '.join(map(str, numbers))} edits; error before {' or '.join(before)} %."
        sections += [f"## {title}", said, Table(COLUMNS, [_row(some) for some in table]).markdown()]
    if results:
        sections += ["## What each editor was given", _given(results), "## Made on", made_on(results)]
    return "\n\n".join(section.strip("\n") for section in sections) + "\n"


def ranked(results: Iterable[Result], success: float) -> list[Result]:
    """Return those that hold often enough by harm, and then the others by how often they do."""

    def order(result: Result) -> tuple[bool, float, float, str]:
        some = result.figures
        return (
            (False, some.harm, 0.0, result.editor)
            if some.success >= success
            else (True, -some.success, some.harm, result.editor)
        )

    return sorted(results, key=order)


def _tables(board: Board, results: Sequence[Result]) -> list[list[Result]]:
    """Return the results of each network and protocol, ranked, in the order of the board and then of names."""
    order = {(cell.network, cell.protocol): place for place, cell in enumerate(board.cells)}
    places = dict.fromkeys((some.network, some.protocol) for some in results)
    return [
        ranked((some for some in results if (some.network, some.protocol) == place), board.success)
        for place in sorted(places, key=lambda place: (order.get(place, len(board.cells)), place))
    ]


def missing(board: Board, results: Sequence[Result]) -> str:
    """Tell how many results are missing, and which are of other options than the board's now."""
    there = {(some.network, some.protocol, some.editor): some for some in results}
    missing = [cell for cell in board.cells if (cell.network, cell.protocol, cell.editor) not in there]
    networks: dict[str, int] = {}
    for cell in missing:
        networks[cell.titles[0]] = networks.get(cell.titles[0], 0) + 1
    of = f": {'; '.join(f'{number} of {markdown_text(name)}' for name, number in networks.items())}" if missing else ""
    sentences = [f"{len(missing)} of {len(board.cells)} results are missing{of}."]
    for cell in board.cells:
        some = there.get((cell.network, cell.protocol, cell.editor))
        if some is not None and changed_options({**some.asked, "weights": None}, cell.asked_without_weights()):
            sentences.append(f"{markdown_code(cell.name)} was made with other options than the board has now.")
    return " ".join(sentences)


def _row(result: Result) -> list[str]:
    some = result.figures
    num_within, group_within = result.within(BUDGET) or ("", None)
    spread = "" if some.half_width is None else f" ± {100 * some.half_width:.2f}"
    return [
        result.titles[2],
        percent(some.success, 1),
        f"{100 * some.harm:+.2f}{spread}",
        percent(some.error_before + some.harm, 2),
        percent(some.broken, 2),
        percent(some.generality, 1),
        percent(some.group_generality, 1),
        str(num_within),
        percent(group_within, 1),
        "" if some.seconds_per_edit is None else f"{1000 * some.seconds_per_edit:.1f}",
        f"{result.seconds:.0f}",
        words(result.constants),
        str(len(result.searched)) if result.searched else "",
    ]


def percent(share: float | None, digits: int) -> str:
    """Return a share in percent, or nothing."""
    return "" if share is None else f"{100 * share:.{digits}f}"


def words(constants: Mapping[str, Any]) -> str:
    """Return constants by the last of their names."""
    return ", ".join(f"{name.rpartition('.')[2]} {_shown(value)}" for name, value in constants.items())


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _given(results: Sequence[Result]) -> str:
    """Return the table of what was tried, with what was chosen how often."""
    rows: dict[tuple[str, str], int] = {}
    for some in results:
        tried = "; ".join(_tried(some.searched)) or "nothing to choose"
        rows[some.titles[2], tried] = rows.get((some.titles[2], tried), 0) + 1
    table = Table(("editor", "candidates", "results"), [(*key, number) for key, number in sorted(rows.items())])
    failed = [
        f"{markdown_code(f'{some.network} · {some.protocol} · {some.editor}')}: {words(one.constants)}"
        for some in results
        for one in some.searched
        if one.failed
    ]
    tail = f"\n\nCandidates that failed: {'; '.join(failed)}." if failed else ""
    return table.markdown() + tail


def _tried(searched: Sequence[Candidate]) -> list[str]:
    """Return each constant with all values that were tried."""
    values: dict[str, list[str]] = {}
    for some in searched:
        for name, value in some.constants.items():
            shown = values.setdefault(name, [])
            if _shown(value) not in shown:
                shown.append(_shown(value))
    return [f"{name} {', '.join(shown)}" for name, shown in values.items()]


def made_on(results: Sequence[Result]) -> str:
    """Return the machines, versions and commits of results."""
    lines: dict[str, int] = {}
    for some in results:
        at = some.surroundings
        hardware = f"{at['processor']}, {at['capability']}, {at['threads']} threads"
        hardware += f", {at['accelerator']}" if at["accelerator"] else ""
        line = (
            f"{hardware}; torch {at['torch']}, lightning {at['lightning']}; commit {(at['commit'] or 'unknown')[:10]}"
        )
        lines[line] = lines.get(line, 0) + 1
    return "\n".join(f"- {markdown_text(line)}: {number} results" for line, number in sorted(lines.items()))
