"""The outcome of a run in files: ``metrics.json`` for programs, ``report.md`` and ``report.html`` for people."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from editable.atomic import write_atomically
from editable.callbacks.run.context import run_folder
from editable.errors import UserError
from editable.reports import write_report

__all__ = ["RunReport", "write_metrics"]


class RunReport(Callback):
    """Writes ``metrics.json`` and a report into the run's log folder when a fit, validation or test has ended.

    ``metrics.json`` is flat, from a metric's name to a number; errors, rates and drawdowns are fractions. Callbacks
    that have a method ``report(trainer, folder) -> list[str]`` write their figures into the folder and contribute
    sections to ``report.md``, which ``report.html`` shows as one page that has its figures in it.

    Raises:
        UserError: If the folder holds the metrics of another run already.
    """

    def __init__(self) -> None:
        self._written: Path | None = None
        self._metrics: dict[str, float] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse a folder that holds the outcome of another run, before anything is computed."""
        folder = run_folder(trainer)
        if trainer.is_global_zero and self._written != folder and (folder / "metrics.json").exists():
            raise UserError(
                f"'{folder}' holds the metrics of another run, which would be overwritten; "
                "choose another trainer.logger or trainer.default_root_dir"
            )

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the report."""
        self._write(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the report, unless the validation is part of a fit."""
        if trainer.state.fn == TrainerFn.VALIDATING:
            self._write(trainer, pl_module)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the report."""
        self._write(trainer, pl_module)

    def _write(self, trainer: Trainer, pl_module: LightningModule) -> None:
        folder = run_folder(trainer)
        if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        if folder != self._written:
            self._metrics = {}
        self._metrics |= _final(trainer.callback_metrics)  # a test after a fit adds to what the fit has left
        sections = [
            section
            for callback in trainer.callbacks  # type: ignore[attr-defined]
            if hasattr(callback, "report")
            for section in callback.report(trainer, folder)
        ]
        write_metrics(folder / "metrics.json", self._metrics)
        table = "\n".join(f"| {name} | {value:.6g} |" for name, value in self._metrics.items())
        title = f"# {type(pl_module).__name__}, {type(pl_module.network).__name__}"
        text = f"{title}\n\n| metric | value |\n| --- | --- |\n{table}\n\n" + "\n".join(sections)
        write_report(folder / "report.md", text)
        self._written = folder


def write_metrics(path: Path, metrics: dict[str, Any]) -> None:
    """Write metrics as JSON, to the seven digits that float32 holds; null where a run has diverged."""
    plain = {name: _plain(float(value)) for name, value in metrics.items()}
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")


def _plain(value: float) -> int | float | None:
    if not math.isfinite(value):
        return None  # JSON knows no NaN
    return int(value) if value.is_integer() else float(f"{value:.7g}")


def _final(logged: Mapping[str, Tensor]) -> dict[str, float]:
    """Return one number for each metric: the epoch's, where the last step's is logged too."""
    last_steps = {f"{name}_step" for name in logged}
    return {name: float(value) for name, value in sorted(logged.items()) if name not in last_steps}
