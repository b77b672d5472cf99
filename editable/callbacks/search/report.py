"""What is told of a search for a learning rate: a line for each rate, a figure, and the editor at the chosen one."""

from pathlib import Path

import yaml

from editable.atomic import write_atomically
from editable.callbacks.search.outcome import SearchOutcome
from editable.editing import RateOutcome
from editable.tables import Table, markdown_code
from editable.visualize import plot_learning_rates

__all__ = ["summary", "write"]

TITLE = "Learning rate of the editor"
CONFIGURATION = "editor.yaml"


def summary(outcome: SearchOutcome) -> Table:
    """Return a table with a row for each learning rate; the chosen one stands out."""
    rows = [_row(rate) for rate in outcome.rates]
    chosen = None if outcome.chosen is None else outcome.rates.index(outcome.chosen)
    return Table(["learning rate", "success", "steps", "drawdown, points"], rows, TITLE, chosen)


def write(outcome: SearchOutcome, folder: Path) -> list[str]:
    """Write the table, the figure and the editor; return the report's section in Markdown."""
    Table(RateOutcome._fields, outcome.rates).write_csv(folder / "search.csv")
    plot_learning_rates(
        folder / "search.png",
        [rate.learning_rate for rate in outcome.rates],
        [rate.drawdown for rate in outcome.rates],
        [rate.half_width for rate in outcome.rates],
        [rate.success_rate for rate in outcome.rates],
        outcome.min_success,
        outcome.chosen and outcome.chosen.learning_rate,
    )
    found = f"**{outcome.advice}**\n\n" if outcome.advice else ""
    if outcome.chosen is not None:
        with write_atomically(folder / CONFIGURATION) as temporary:
            temporary.write_text(yaml.safe_dump(outcome.editor, sort_keys=False), encoding="utf-8")
        found += (
            f"Chosen: {outcome.chosen.learning_rate:g}. [{CONFIGURATION}]({CONFIGURATION}) is the editor at this rate, "
            f"to be added to the options of a test: {markdown_code(f'--config {folder / CONFIGURATION}')}.\n\n"
        )
    return [
        f"## {TITLE}\n\n{_describe(outcome)}\n\n{found}{summary(outcome).markdown()}\n\n"
        "![Drawdown and success rate over learning rates](search.png)\n"
    ]


def _row(rate: RateOutcome) -> list[str]:
    interval = "" if rate.half_width is None else f" ± {100 * rate.half_width:.2f}"
    return [
        f"{rate.learning_rate:g}",
        f"{rate.success_rate:.1%}",
        f"{rate.num_steps:.2f}",
        f"{100 * rate.drawdown:.2f}{interval}",
    ]


def _describe(outcome: SearchOutcome) -> str:
    """Say what was done."""
    scored = "on all scoring images"
    if outcome.sampled:
        looked_at = [rate.num_sampled_images or 0 for rate in outcome.rates]
        scored = (
            f"on a random part of the scoring images, {min(looked_at)} to {max(looked_at)} looked at for a rate, which "
            "gives the intervals (95 % confidence, for the mean over these edits)"
        )
    return (
        f"{outcome.num_edits} held-out edits with random labels (seed {outcome.seed}), none of them reported, on the "
        f"{outcome.split} images; the same at each of {len(outcome.rates)} learning rates. Each edited network was "
        f"scored {scored}. The least drawdown among rates with a success rate of at least "
        f"{outcome.min_success:.4g} is chosen."
    )
