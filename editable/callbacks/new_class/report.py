"""What a run with a new class leaves for its reader: tables, figures, and a configuration of the grown network."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml
from rich.table import Table

from editable.atomic import write_atomically
from editable.callbacks.new_class.outcome import NewClassOutcome, write_outcomes
from editable.data import ImageDataModule, denormalise
from editable.rewriting.new_class.class_filter import filter_maps
from editable.tables import markdown_table, terminal_table
from editable.visualize.new_classes import plot_filter_maps, plot_negative_weights, plot_new_class_roc

if TYPE_CHECKING:
    from editable.callbacks.new_class.callback import NewClass

__all__ = ["NewClassReport", "grown_configuration"]

MOST_SHOWN = 5
"""Positives, and as many negatives, whose maps are drawn."""


class NewClassReport:
    """Tables and figures of a new class.

    Args:
        run: The callback, when everything is judged.
    """

    def __init__(self, run: "NewClass") -> None:
        self.run = run

    def table(self) -> Table:
        """Return the outcomes, as means over draws, as a table for the terminal."""
        head, *rows = self._rows(_mean)
        return terminal_table(head, rows, f"The new class '{self.run.name}'")

    def write(self, folder: Path, data: ImageDataModule) -> list[str]:
        """Write all files into a folder; return the report's section in Markdown."""
        run = self.run
        write_outcomes(folder / "new_class.csv", run.outcomes)
        self._plot_roc(folder)
        self._plot_maps(folder, data)
        head, *rows = self._rows(_spread)
        text = (
            f"## The new class '{run.name}'\n\n{self._describe()}\n\n{markdown_table(head, rows)}\n\n"
            "Every draw has its lines in [new_class.csv](new_class.csv).\n\n![ROC curves](new_class_roc.png)\n\n"
            "![Maps of the filter before and after training, on what it was trained on](filter_maps.png)\n"
        )
        if len(run.negative_weights) > 1:
            self._plot_weights(folder)
            text += "\n![AUC and activations over the weight of negatives](negative_weights.png)\n"
        return [text + self._kept(folder)]

    def _describe(self) -> str:
        run, trial = self.run, self.run.trials[0]
        which = {"random": "drawn at random", "top": "that a filter trained on the positives alone responds to most"}
        repeated = (
            ""
            if run.num_draws == 1
            else f" This was done {run.num_draws} times, each time with examples drawn anew: figures are means, with "
            "the range in brackets."
        )
        return (
            f"A filter beside `{run.layer}` was trained on {_count(len(trial.positives), 'image')} of '{run.name}' and "
            f"{_count(len(trial.negatives), 'image')} of other classes {which[run.negatives]}, with λ = "
            f"{run.training.negative_weight:g}.{repeated} Figures are of {len(run.test_images)} test images of "
            f"'{run.name}' and all test images of old classes, of which the network got {run.accuracy_before:.2%} "
            f"right before. New logits are shifted such that {run.max_loss:.1%} of other images of old classes go to "
            "the new one."
        )

    def _rows(self, write: Callable[[list[float], str], str]) -> Iterator[list[str]]:
        """Yield the head of the table, and a row for each method, with figures over draws as they are to be written."""
        yield ["method", "AUC", "AUC of probability", "recall", "old images lost", "old accuracy"]
        for name, outcomes in self._by_method().items():
            spreads = [
                write([getattr(outcome, field) for outcome in outcomes], pattern)
                for field, pattern in (
                    ("auc", "{:.3f}"),
                    ("auc_probability", "{:.3f}"),
                    ("recall", "{:.1%}"),
                    ("lost", "{:.2%}"),
                    ("accuracy", "{:.2%}"),
                )
            ]
            yield [name, *spreads]

    def _by_method(self) -> dict[str, list[NewClassOutcome]]:
        methods: dict[str, list[NewClassOutcome]] = {}
        for outcome in self.run.outcomes:
            name = outcome.method
            if outcome.negative_weight is not None:
                name += f", λ = {outcome.negative_weight:g}"
            methods.setdefault(name, []).append(outcome)
        return methods

    def _plot_roc(self, folder: Path) -> None:
        methods = ["filter", *self.run.trials[0].vectors]
        curves = {
            method: [(*judged.curve[:2], judged.outcome.auc) for judged in self.run.of_method(method)]
            for method in methods
        }
        plot_new_class_roc(folder / "new_class_roc.png", curves)

    def _plot_weights(self, folder: Path) -> None:
        run = self.run
        by_weight = [[judged.outcome for judged in run.of_method("filter", weight)] for weight in run.negative_weights]
        baselines = {
            name: sum(judged.outcome.auc for judged in run.of_method(name)) / run.num_draws
            for name in run.trials[0].vectors
        }
        plot_negative_weights(
            folder / "negative_weights.png",
            run.negative_weights,
            [[outcome.auc for outcome in some] for some in by_weight],
            [[outcome.positive_activation for outcome in some] for some in by_weight],
            [[outcome.negative_activation for outcome in some] for some in by_weight],
            baselines,
        )

    @torch.no_grad()
    def _plot_maps(self, folder: Path, data: ImageDataModule) -> None:
        run, trial = self.run, self.run.trials[0]
        one = trial.filters[run.negative_weights.index(run.training.negative_weight)]
        positives, negatives = trial.positives[:MOST_SHOWN], trial.negative_images[:MOST_SHOWN]
        read = torch.cat([trial.examples.positives[:MOST_SHOWN], trial.examples.negatives[:MOST_SHOWN]])
        silhouettes = trial.examples.silhouettes[:MOST_SHOWN]
        targets = torch.cat([silhouettes, silhouettes.new_zeros(len(negatives), *silhouettes.shape[1:])])
        before, after = (
            filter_maps(trial.block, read, weight)[:, 0].sigmoid() for weight in (one.initial_weight, one.weight)
        )
        titles = [run.name] * len(positives) + ["other"] * len(negatives)
        images = denormalise(torch.cat([positives, negatives]), data.mean, data.std)
        plot_filter_maps(folder / "filter_maps.png", images, targets, before, after, titles)

    def _kept(self, folder: Path) -> str:
        """Write the configuration of the grown network; say where it and the weights are."""
        text = "\nThe network grown by the filter of the first draw is in `grown.safetensors`"
        content = grown_configuration(folder, self.run.layer, self.run.pooling)
        if content is None:
            return f"{text}.\n"
        with write_atomically(folder / "grown.yaml") as temporary:
            temporary.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
        return (
            f"{text}, and [grown.yaml](grown.yaml) loads it: `--config {folder / 'grown.yaml'}` behind the options of "
            f"a run on data whose last class is '{self.run.name}'.\n"
        )


def grown_configuration(folder: Path, layer: str, pooling: str) -> dict[str, Any] | None:
    """Return a configuration of the model of a run with the grown network in place of its network.

    Args:
        folder: The run's, with its ``config.yaml`` and ``grown.safetensors``.
        layer: Beside which the filter stands.
        pooling: Of its map.

    Returns:
        A section ``model``; none where the folder holds no configuration of a task that takes a network and weights.
    """
    path = folder / "config.yaml"
    model = (yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}).get("model")
    if not isinstance(model, dict) or not model.get("init_args", {}).keys() >= {"network", "weights"}:
        return None
    settings = {"network": model["init_args"]["network"], "layer": layer, "num_new": 1, "pooling": pooling}
    network = {"class_path": "editable.models.grow_classes", "init_args": settings}
    changed = {"network": network, "weights": str(folder / "grown.safetensors")}
    return {"model": {**model, "init_args": {**model["init_args"], **changed}}}


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _mean(values: list[float], pattern: str) -> str:
    return pattern.format(sum(values) / len(values))


def _spread(values: list[float], pattern: str) -> str:
    mean = _mean(values, pattern)
    return mean if len(values) == 1 else f"{mean} ({pattern.format(min(values))} … {pattern.format(max(values))})"
