"""Search for an editor's learning rate: the same held-out edits at each rate, of which the best is chosen."""

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from rich.table import Table
from torch.utils.data import Dataset

from editable.atomic import write_atomically, write_csv
from editable.callbacks.drawdown_evaluation.callback import DrawdownEvaluation
from editable.callbacks.run.context import network_of, run_folder
from editable.callbacks.run.edit_loop import all_ranks, gather_outcomes, progress_bars, validates_alone, whole_loader
from editable.callbacks.run.subcommand import Subcommand
from editable.data.edits.edit_streams import Edits, EditStream, HeldOutEdits, RandomLabelEdits
from editable.editing import (
    BasePredictions,
    EditEvaluator,
    EditOutcomes,
    RateOutcome,
    SamplingSettings,
    choose_learning_rate,
    learning_rate_grid,
    merge_estimates,
)
from editable.errors import UserError, require_at_least
from editable.models import fingerprint
from editable.tables import markdown_table, terminal_table
from editable.visualize import plot_learning_rates

__all__ = ["LearningRateSearch"]

STATE = "search.json"


class LearningRateSearch(Subcommand):
    """Finds the learning rate of an editor: the one of least drawdown among those with enough successes.

    The same held-out edits are made at each learning rate of a logarithmic grid and scored on the same images. An edit
    asks for a uniformly random label on a random input that no reported edit uses: on the test images, none of the
    first 1000 of the published permutation, nor more of them where ``evaluation.num_edits`` is larger. Validation
    images are other images than those reported on, so there any may be drawn, unless the data set has no test images
    and is tested on its validation images. A test set too small for both kinds of edits is refused: take ``split=val``.

    Logs, of the chosen rate, ``search_learning_rate``, ``search_drawdown``, ``search_drawdown_half_width``,
    ``search_success_rate`` and ``search_num_steps``, and beside them ``search_num_edits``, ``search_num_rates``,
    ``search_num_scoring_images`` and ``search_scoring_error`` (the unedited network's error on those). Leaves
    ``search.csv`` with a line for each rate, ``search.png``, and ``editor.yaml``, a configuration file with the editor
    at the chosen rate. Each finished rate is kept in ``search.json`` at once. Edits are shared out over ranks.

    Args:
        evaluation: Whose editor, editable layers and scoring are searched with; it does not run itself.
        lowest: Lowest learning rate.
        highest: Highest learning rate.
        per_decade: Number of learning rates in each factor of ten; both ends are among them.
        num_edits: Number of held-out edits at each learning rate.
        min_success: Least success rate, as a fraction, of a learning rate that may be chosen.
        half_width: Half-width of the 95 % interval of drawdown aimed at, as a fraction: 0.002 is a fifth of a point. Of
            no effect where ``evaluation.sampling`` is given; null looks at all scoring images.
        split: Whether edited inputs and scoring images are ``test`` or ``val`` images, the data module's validation
            images.
        seed: Seed of the held-out edits.
        resume: Folder of a search that was interrupted, or that had another grid: its finished learning rates are taken
            over. Network, edits, editor and scoring must be the same.

    Attributes:
        outcomes: Of each learning rate, in ascending order, once the search has run.
        chosen: The best of them; none where no rate had enough successes.

    Raises:
        UserError: If a number is out of its range, or the folder holds no search; when it runs, if the editor has no
            learning rate that can be set, there are too few inputs, or the search in the folder was another one.
    """

    def __init__(
        self,
        evaluation: DrawdownEvaluation,
        lowest: float = 1e-6,
        highest: float = 1e-2,
        per_decade: int = 3,
        num_edits: int = 100,
        min_success: float = 0.95,
        half_width: float | None = 0.002,
        split: Literal["test", "val"] = "test",
        seed: int = 0,
        resume: str | None = None,
    ) -> None:
        self.rates = learning_rate_grid(lowest, highest, per_decade)
        require_at_least(1, num_edits=num_edits)
        require_at_least(0, seed=seed)
        if not 0 <= min_success <= 1:
            raise UserError(f"min_success is a fraction from 0 to 1, got {min_success}")
        self.evaluation, self.num_edits, self.min_success = evaluation, num_edits, min_success
        self.split, self.seed, self.resume = split, seed, resume
        own_sampling = None if half_width is None else SamplingSettings(half_width)
        self.sampling = evaluation.sampling or own_sampling
        self.outcomes: list[RateOutcome] = []
        self.chosen: RateOutcome | None = None
        self._state = None if resume is None else _read_state(Path(resume))
        self._editor: dict[str, Any] = {}

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look for what would make the search fail, before anything is computed."""
        if self.split == "test":
            self._check(pl_module, trainer.test_loop.inference_mode)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look for what would make the search fail, before anything is computed."""
        if self.split == "val" and validates_alone(trainer):
            self._check(pl_module, trainer.validate_loop.inference_mode)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Search with edits of test images."""
        if self.split == "test":
            self._search(trainer, pl_module, trainer.test_dataloaders)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Search with edits of validation images, unless the validation is part of a fit."""
        if self.split == "val" and validates_alone(trainer):
            self._search(trainer, pl_module, trainer.val_dataloaders)

    def report(self, trainer: Trainer, folder: Path) -> list[str]:
        """Write the table, the figure and the editor; return the report's section in Markdown."""
        if not self.outcomes:
            return []
        write_csv(folder / "search.csv", [RateOutcome._fields, *self.outcomes])
        plot_learning_rates(
            folder / "search.png",
            self.rates,
            [outcome.drawdown for outcome in self.outcomes],
            [outcome.half_width for outcome in self.outcomes],
            [outcome.success_rate for outcome in self.outcomes],
            self.min_success,
            self.chosen and self.chosen.learning_rate,
        )
        found = f"**{self.advice}**\n\n" if self.advice else ""
        if self.chosen is not None:
            with write_atomically(folder / "editor.yaml") as temporary:
                temporary.write_text(yaml.safe_dump(self._editor, sort_keys=False), encoding="utf-8")
            found += (
                f"Chosen: {self.chosen.learning_rate:g}. [editor.yaml](editor.yaml) is the editor at this rate, to be "
                f"added to the options of a test: `--config {folder / 'editor.yaml'}`.\n\n"
            )
        header, *rows = self._rows()
        return [
            f"## Learning rate of the editor\n\n{self._describe()}\n\n{found}{markdown_table(header, rows)}\n\n"
            "![Drawdown and success rate over learning rates](search.png)\n"
        ]

    def table(self) -> Table:
        """Return the outcomes as a table for the terminal."""
        header, *rows = self._rows()
        table = terminal_table(header, rows, title="Learning rate of the editor")
        if self.chosen is not None:
            table.rows[self.outcomes.index(self.chosen)].style = "bold green"
        return table

    @property
    def loop(self) -> Literal["test", "validate"]:
        """The loop over the images that the edits are drawn from."""
        return "test" if self.split == "test" else "validate"

    def failure(self) -> str | None:
        """Return what to do where no rate had enough successes."""
        return self.advice if self.chosen is None else None

    @property
    def advice(self) -> str | None:
        """What to do where no rate had enough successes, or the chosen one lies at an end of the grid; else none."""
        lowest, highest = self.rates[0], self.rates[-1]
        widen = {lowest: "search lower ones (search.lowest)", highest: "search higher ones (search.highest)"}
        if self.chosen is None:
            most = max(self.outcomes, key=lambda outcome: outcome.success_rate)
            remedy = widen.get(most.learning_rate, "let an edit take more steps (the editor's max_steps)")
            return (
                f"no learning rate from {lowest:g} to {highest:g} has a success rate of {self.min_success:.4g}; the "
                f"highest is {most.success_rate:.4g}, at {most.learning_rate:g}: {remedy}, or accept fewer successes "
                "(search.min_success)"
            )
        at = self.chosen.learning_rate
        if at not in widen or len(self.rates) == 1:
            return None
        end = "lowest" if at == lowest else "highest"
        return f"the chosen learning rate, {at:g}, is the {end} one searched: {widen[at]}, as the best may lie beyond"

    def _check(self, pl_module: LightningModule, inference_mode: bool) -> None:
        self.evaluation.check(pl_module, inference_mode)
        self.evaluation.editor_for(pl_module).with_learning_rate(self.rates[0]).configuration()

    def _search(self, trainer: Trainer, pl_module: LightningModule, dataloaders: Any) -> None:
        loader = whole_loader(dataloaders)
        num_images = len(loader.dataset)  # type: ignore[arg-type]
        editor = self.evaluation.editor_for(pl_module)
        evaluator = self.evaluation.make_evaluator(pl_module, loader, self.sampling)
        with closing(evaluator), progress_bars(trainer) as progress:
            task = progress.add_task(f"{self.split} images through the unedited network", total=num_images)
            base = evaluator.measure_base(partial(progress.advance, task))
            edits = self._draw_edits(base, trainer)
            settings = self._settings(trainer, pl_module, evaluator, base, edits, loader.dataset)
            finished = self._finished(settings)
            share = _own(edits, trainer)
            views = self.evaluation.make_views(trainer, loader.dataset) if self.evaluation.edited_views else None
            task = progress.add_task("learning rates", total=len(self.rates) * len(share.indices))
            for rate in self.rates:
                progress.update(task, description=f"learning rate {rate:g}")
                if rate in finished:
                    progress.advance(task, len(share.indices))
                    continue
                evaluator.editor = editor.with_learning_rate(rate).to(pl_module.device)
                outcomes = evaluator.score(
                    loader.dataset,
                    *share,
                    partial(progress.advance, task),
                    self.num_edits,
                    trainer.global_rank,
                    views,
                    self.evaluation.edited_views,
                )
                finished[rate] = _summarize(rate, outcomes, evaluator, trainer.world_size)
                _write_state(trainer, settings, finished)
        self.outcomes = [finished[rate] for rate in self.rates]
        self.chosen = choose_learning_rate(self.outcomes, self.min_success)
        if self.chosen is not None:
            layers = self.evaluation.editable_layers_for(pl_module)
            chosen = editor.with_learning_rate(self.chosen.learning_rate).configuration()
            self._editor = {"evaluation": {"editor": chosen, "editable_layers": list(layers)}}
        if self.chosen is not None and self.advice:
            rank_zero_warn(self.advice)
        self._log(pl_module, evaluator)

    def _draw_edits(self, base: BasePredictions, trainer: Trainer) -> Edits:
        """Draw the held-out edits; see the class."""
        stream: EditStream = RandomLabelEdits(self.seed)
        if self.split == "test" or getattr(_datamodule(trainer), "tests_on_validation", False):
            num_reported = max(RandomLabelEdits.published_num_edits, self.evaluation.num_edits)
            stream = HeldOutEdits(self.evaluation.edits, num_reported, self.seed)
        try:
            return stream(base.labels, base.predictions, base.num_classes, self.num_edits)
        except UserError as error:
            other = "take the validation images (search.split=val), or " if self.split == "test" else ""
            raise UserError(f"{error} Here: {other}lower search.num_edits.") from error

    def _settings(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        evaluator: EditEvaluator,
        base: BasePredictions,
        edits: Edits,
        dataset: Dataset,
    ) -> dict[str, Any]:
        """Return what the outcome at a learning rate depends on, as JSON holds it."""
        network = network_of(pl_module)
        images = torch.stack([torch.as_tensor(dataset[index][0]) for index in edits.indices.tolist()])
        settings = {
            "split": self.split,
            "num_edits": self.num_edits,
            "seed": self.seed,
            "weights": fingerprint(network.state_dict()),
            "labels": fingerprint({"labels": base.labels}),
            "edits": fingerprint({"indices": edits.indices, "labels": edits.labels, "images": images}),
            "editor": self.evaluation.editor_for(pl_module).with_learning_rate(1.0).configuration(),
            "editable_layers": self.evaluation.editable_layers_for(pl_module),
            "image_stride": evaluator.image_stride,
            "sampling": self.sampling and asdict(self.sampling),
            "scoring": asdict(evaluator.scoring),
            "processes": trainer.world_size,
        }
        if self.evaluation.edited_views:
            of_views = ("generality_views", "generality_augmentation", "generality_seed", "edited_views")
            settings["views"] = {name: getattr(self.evaluation, name) for name in of_views}
        return json.loads(json.dumps(settings))

    def _finished(self, settings: dict[str, Any]) -> dict[float, RateOutcome]:
        """Return the finished outcomes of the search to be resumed, by learning rate."""
        if self._state is None:
            return {}
        for name, here in settings.items():
            there = self._state["settings"].get(name)
            if there != here:
                raise UserError(
                    f"search.resume: the search in '{self.resume}' was another one, with {name} {there!r} in place of "
                    f"{here!r}; leave the option out to begin a new search"
                )
        return {row["learning_rate"]: RateOutcome(**row) for row in self._state["outcomes"]}

    def _log(self, pl_module: LightningModule, evaluator: EditEvaluator) -> None:
        values: dict[str, float | None] = {
            "num_edits": self.num_edits,
            "num_rates": len(self.rates),
            "num_scoring_images": evaluator.num_images,
            "scoring_error": evaluator.errors_before / evaluator.num_images,
        }
        if self.chosen is not None:
            values |= {
                "learning_rate": self.chosen.learning_rate,
                "drawdown": self.chosen.drawdown,
                "drawdown_half_width": self.chosen.half_width,
                "success_rate": self.chosen.success_rate,
                "num_steps": self.chosen.num_steps,
            }
        logged = {f"search_{name}": float(value) for name, value in values.items() if value is not None}
        pl_module.log_dict(logged, sync_dist=True)

    def _describe(self) -> str:
        """Say in the report what was done."""
        scored = "on all scoring images"
        if self.sampling:
            least = min(outcome.num_sampled_images or 0 for outcome in self.outcomes)
            most = max(outcome.num_sampled_images or 0 for outcome in self.outcomes)
            scored = (
                f"on a random part of the scoring images, {least} to {most} looked at for a rate, which gives the "
                "intervals (95 % confidence, for the mean over these edits)"
            )
        return (
            f"{self.num_edits} held-out edits with random labels (seed {self.seed}), none of them reported, on the "
            f"{self.split} images; the same at each of {len(self.rates)} learning rates. Each edited network was "
            f"scored {scored}. The least drawdown among rates with a success rate of at least "
            f"{self.min_success:.4g} is chosen."
        )

    def _rows(self) -> Iterator[list[str]]:
        """Yield the head of the table and a row for each learning rate."""
        yield ["learning rate", "success", "steps", "drawdown, points"]
        for outcome in self.outcomes:
            interval = "" if outcome.half_width is None else f" ± {100 * outcome.half_width:.2f}"
            yield [
                f"{outcome.learning_rate:g}",
                f"{outcome.success_rate:.1%}",
                f"{outcome.num_steps:.2f}",
                f"{100 * outcome.drawdown:.2f}{interval}",
            ]


def _own(edits: Edits, trainer: Trainer) -> Edits:
    """Return the edits that this rank makes; they are dealt out one by one."""
    return Edits(*(field[trainer.global_rank :: trainer.world_size] for field in edits))


def _summarize(rate: float, outcomes: EditOutcomes, evaluator: EditEvaluator, world_size: int) -> RateOutcome:
    """Return the means over the edits of all ranks; a collective operation."""
    outcomes = gather_outcomes(outcomes, world_size)
    means = rate, outcomes.success.double().mean().item(), outcomes.num_steps.double().mean().item()
    if evaluator.sampling is None:
        changes = (outcomes.errors_after - evaluator.errors_before).double()
        return RateOutcome(*means, changes.mean().item() / evaluator.num_images)
    estimate = merge_estimates(share for share in all_ranks(evaluator.estimate, world_size) if share)
    return RateOutcome(*means, estimate.drawdown, estimate.half_width, estimate.forward_passes)


def _read_state(folder: Path) -> dict[str, Any]:
    path = folder / STATE
    if not path.is_file():
        raise UserError(f"search.resume: there is no search in '{folder}', which has no {STATE}")
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"search.resume: '{path}' cannot be read as JSON, {error}") from error
    if not isinstance(state, dict) or not state.keys() >= {"settings", "outcomes"}:
        raise UserError(f"search.resume: '{path}' is not what a search has left")
    return state


def _write_state(trainer: Trainer, settings: dict[str, Any], finished: dict[float, RateOutcome]) -> None:
    folder = run_folder(trainer)
    if trainer.is_global_zero:
        state = {"settings": settings, "outcomes": [outcome._asdict() for outcome in finished.values()]}
        with write_atomically(folder / STATE) as temporary:
            temporary.write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")


def _datamodule(trainer: Trainer) -> Any:
    return trainer.datamodule  # type: ignore[attr-defined]
