"""Runs of a rewrite on the small network, as the command line makes them."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from editable.callbacks import RankOneRewrite, RunReport
from editable.callbacks.rewrite import RewriteOutcome
from editable.callbacks.run_report import write_metrics
from editable.callbacks.site.moment import MomentSettings
from editable.data import ImageFolderDataModule, RewriteRule
from editable.rewriting import ClosedForm, FineTuning, LambdaDescent, ProjectedDescent
from editable.tasks import ClassificationTask
from tests.callbacks.site.dark_and_light import MEAN, SIZE, STD
from tests.quiet_trainer import quiet_trainer

SEVERAL: dict[str, Any] = {
    "layers": ["0", "3"],
    "solvers": [ClosedForm(), LambdaDescent(max_steps=20), ProjectedDescent(max_steps=20)],
    "ranks": [1, 2],
    "strengths": [0.5, 1.0],
    "choose_on": "half",
    "max_drop": 0.2,
}
ROUTES: dict[str, Any] = {
    "routes": ["images", "features"],
    "solvers": [ClosedForm(), FineTuning("local", 1e-2, max_steps=3)],
    "layers": ["3"],
    "choose_on": "half",
    "max_drop": 0.5,
}


class Run(NamedTuple):
    """What a run has left: the callback with its outcome, the metrics, and the folder."""

    rewrite: RankOneRewrite
    metrics: dict[str, float]
    folder: Path

    @property
    def outcome(self) -> RewriteOutcome:
        assert self.rewrite.outcome is not None
        return self.rewrite.outcome


def rule(root: Path, name: str = "masks", **settings) -> RewriteRule:
    return RewriteRule(str(root / f"{name}.json"), texture=str(root / "blue.png"), image_size=SIZE, **settings)


def trial_rules(root: Path) -> list[RewriteRule]:
    return [rule(root, "validation", seed=5, exemplars=[0, 1, 2]), rule(root, "validation", exemplars=[3, 4, 5])]


def make_data(root: Path, batch_size: int = 128) -> ImageFolderDataModule:
    return ImageFolderDataModule(str(root), image_size=SIZE, num_workers=0, mean=MEAN, std=STD, batch_size=batch_size)


def run(
    network: nn.Module,
    root: Path,
    folder: Path,
    report: bool = True,
    inference_mode: bool = False,
    batch_size: int = 128,
    limit_test_batches: int | None = None,
    **settings,
) -> Run:
    """Rewrite as the command line does; drawing is most of the time, and left out where nobody reads the report."""
    defaults = {"layers": ["0"], "moment": MomentSettings(), "photographs": str(root / "photographs")}
    rewrite = RankOneRewrite(settings.pop("rule", None) or rule(root), **{**defaults, **settings})
    callbacks = [rewrite, RunReport()] if report else [rewrite]
    trainer = quiet_trainer(
        inference_mode=inference_mode,
        callbacks=callbacks,
        default_root_dir=folder,
        limit_test_batches=limit_test_batches,
    )
    trainer.test(ClassificationTask(network), make_data(root, batch_size), verbose=False)
    if not report:
        folder.mkdir(exist_ok=True)
        write_metrics(folder / "metrics.json", {name: float(value) for name, value in trainer.callback_metrics.items()})
    return Run(rewrite, json.loads((folder / "metrics.json").read_text()), folder)
