"""The default run: one small ResNet trained twice on handwritten digits, and how well each of the two can be edited."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from lightning.pytorch.loggers import TensorBoardLogger
from rich.console import Console

from editable.callbacks import EvaluatedEdits, write_metrics
from editable.command_line.shipped import shipped_folder
from editable.errors import UserError
from editable.lightning_cli import EditableCLI
from editable.reports import write_report
from editable.tables import Table
from editable.visualize import plot_drawdown, plot_success

__all__ = ["default_run"]

NAMES = ("baseline", "editable")
ROWS = {
    "test_error": ("test error", "{:.2%}"),
    "drawdown": ("drawdown", "{:+.2%}"),
    "success_rate": ("success rate", "{:.0%}"),
    "num_steps": ("steps of an edit", "{:.2f}"),
}
COUNTS = ("num_edits", "num_test_images", "num_scoring_images", "drawdown_absolute")


class _Half(NamedTuple):
    """One of the two networks: its metrics and what its edits did."""

    metrics: dict[str, float]
    edits: EvaluatedEdits


def default_run(root: str | Path = "runs", options: Sequence[str] = ()) -> Path:
    """Train without and with editable training from the same seed, edit both, and compare.

    Leaves the logs of both, ``metrics.json``, ``report.md`` with figures, and ``report.html``, which has them in it, in
    a new folder ``<root>/default/version_<n>``, and prints a table.

    Args:
        root: Where run folders go.
        options: Further command line options for both halves, such as ``--trainer.max_epochs=1``.

    Returns:
        The run's folder.

    Raises:
        UserError: If the configurations that come with the package are not there.
    """
    if not (shipped_folder() / "digits").is_dir():
        raise UserError(f"the default run reads {shipped_folder() / 'digits'}, which is not there: install it again")
    folder = Path(TensorBoardLogger(root, name="default").log_dir)
    halves = {name: _train_and_test(name, folder, options) for name in NAMES}
    _write_report(folder, halves)
    _print_table(folder, halves)
    return folder


def _train_and_test(name: str, folder: Path, options: Sequence[str]) -> _Half:
    """Run one shipped configuration into its own folder below the run's."""
    arguments = [
        "fit",
        f"--config={shipped_folder() / 'digits' / name}.yaml",
        "--trainer.enable_model_summary=false",
        "--trainer.devices=1",
    ]
    logger = [f"save_dir={folder.parent}", f"name={folder.name}", f"version={name}"]
    arguments += [f"--trainer.logger.init_args.{setting}" for setting in logger]
    cli = EditableCLI([*arguments, *options])
    (metrics,) = cli.trainer.test(cli.model, cli.datamodule, verbose=False)
    return _Half({metric: metrics[metric] for metric in (*ROWS, *COUNTS)}, cli.evaluation.results["test"])


def _write_report(folder: Path, halves: Mapping[str, _Half]) -> None:
    plot_drawdown(folder / "drawdown.png", {name: half.edits.drawdown for name, half in halves.items()})
    plot_success(
        folder / "success.png",
        {name: (half.edits.outcomes.success, half.edits.outcomes.num_steps) for name, half in halves.items()},
    )
    metrics = {f"{name}_{metric}": value for name, half in halves.items() for metric, value in half.metrics.items()}
    write_metrics(folder / "metrics.json", metrics)
    counts = halves["baseline"].metrics
    text = f"""# Without and with editable training

A small ResNet on handwritten digits, trained twice from the same seed: `baseline` with cross-entropy alone, `editable`
with the edit and locality terms. Each was then edited {counts["num_edits"]:.0f} times: an image of the test set shall
get a random label, and every edit starts from the trained network. Each edited network was scored on
{counts["num_scoring_images"]:.0f} test images. Drawdown is what an edit adds to the test error.

{_table(halves).markdown()}

![The first edited digits with old and asked label](editable/edits.png)

![Distribution of drawdown over edits](drawdown.png)

![Success against number of steps](success.png)

Each half in full: {", ".join(f"[{name}]({name}/report.md)" for name in halves)}.
"""
    write_report(folder / "report.md", text)


def _print_table(folder: Path, halves: Mapping[str, _Half]) -> None:
    console = Console()
    console.print(_table(halves).terminal())
    console.print(f"Report and figures: {folder / 'report.md'}; as one page: report.html", soft_wrap=True, markup=False)


def _table(halves: Mapping[str, _Half]) -> Table:
    """Return the figures of both halves side by side."""
    rows = [
        [title, *(pattern.format(half.metrics[metric]) for half in halves.values())]
        for metric, (title, pattern) in ROWS.items()
    ]
    return Table(("", *halves), rows, "Without and with editable training")
