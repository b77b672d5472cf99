"""What a run with a new class leaves for its reader: tables and figures."""

from collections.abc import Callable
from pathlib import Path

from editable.callbacks.new_class.outcome import LogitFigures, NewClassOutcome
from editable.tables import Table, markdown_code, markdown_text
from editable.visualize.new_classes import plot_filter_maps, plot_negative_weights, plot_new_class_roc

__all__ = ["summary", "write"]

WHICH = {"random": "drawn at random", "top": "that a filter trained on the positives alone responds to most"}
"""What the negatives are, by the choice."""


def summary(outcome: NewClassOutcome) -> Table:
    """Return the figures of each method, as means over draws, as they are printed."""
    return _table(outcome, _mean)


def write(outcome: NewClassOutcome, folder: Path) -> list[str]:
    """Write ``new_class.csv`` and figures into a folder; return the report's section in Markdown."""
    Table(LogitFigures._fields, outcome.figures).write_csv(folder / "new_class.csv")
    curves = {
        method: [(*curve[:2], some.auc) for curve, some in zip(drawn, outcome.of_method(method), strict=True)]
        for method, drawn in outcome.curves.items()
    }
    plot_new_class_roc(folder / "new_class_roc.png", curves)
    maps = outcome.maps
    titles = [outcome.name if new else "other" for new in maps.is_new]
    plot_filter_maps(folder / "filter_maps.png", maps.images, maps.targets, maps.before, maps.after, titles)
    name = markdown_text(outcome.name)
    text = (
        f"## The new class '{name}'\n\n{_describe(outcome)}\n\n{_table(outcome, _spread).markdown()}\n\n"
        "Every draw has its lines in [new_class.csv](new_class.csv).\n\n![ROC curves](new_class_roc.png)\n\n"
        "![Maps of the filter before and after training, on what it was trained on](filter_maps.png)\n"
    )
    if len(outcome.negative_weights) > 1:
        _plot_weights(outcome, folder / "negative_weights.png")
        text += "\n![AUC and activations over the weight of negatives](negative_weights.png)\n"
    return [text + _kept(outcome)]


def _describe(outcome: NewClassOutcome) -> str:
    repeated = (
        ""
        if outcome.num_draws == 1
        else f" This was done {outcome.num_draws} times, each time with examples drawn anew: figures are means, with "
        "the range in brackets."
    )
    name = markdown_text(outcome.name)
    return (
        f"A filter beside {markdown_code(outcome.layer)} was trained on {_count(outcome.num_positives, 'image')} of "
        f"'{name}' and {_count(outcome.num_negatives, 'image')} of other classes {WHICH[outcome.negatives]}, "
        f"with λ = {outcome.negative_weight:g}.{repeated} Figures are of {outcome.num_new_test_images} test images of "
        f"'{name}' and all test images of old classes, of which the network got {outcome.accuracy_before:.2%} "
        f"right before. New logits are shifted such that {outcome.max_loss:.1%} of other images of old classes go to "
        "the new one."
    )


def _table(outcome: NewClassOutcome, written: Callable[[list[float], str], str]) -> Table:
    """Return a row for each method, with figures over draws as they are to be written."""
    columns = {
        "AUC": ("auc", "{:.3f}"),
        "AUC of probability": ("auc_probability", "{:.3f}"),
        "recall": ("recall", "{:.1%}"),
        "old images lost": ("lost", "{:.2%}"),
        "old accuracy": ("accuracy", "{:.2%}"),
    }
    rows = [
        [name, *(written([getattr(one, field) for one in drawn], pattern) for field, pattern in columns.values())]
        for name, drawn in _by_method(outcome).items()
    ]
    return Table(["method", *columns], rows, f"The new class '{outcome.name}'")


def _by_method(outcome: NewClassOutcome) -> dict[str, list[LogitFigures]]:
    """Return the figures by draw of each method, a filter with each λ being one."""
    methods: dict[str, list[LogitFigures]] = {}
    for some in outcome.figures:
        name = some.method
        if some.negative_weight is not None:
            name += f", λ = {some.negative_weight:g}"
        methods.setdefault(name, []).append(some)
    return methods


def _plot_weights(outcome: NewClassOutcome, path: Path) -> None:
    by_weight = [outcome.of_method("filter", weight) for weight in outcome.negative_weights]
    baselines = {
        method: sum(some.auc for some in outcome.of_method(method)) / outcome.num_draws
        for method in outcome.curves
        if method != "filter"
    }
    plot_negative_weights(
        path,
        outcome.negative_weights,
        [[some.auc for some in drawn] for drawn in by_weight],
        [[some.positive_activation for some in drawn] for drawn in by_weight],
        [[some.negative_activation for some in drawn] for drawn in by_weight],
        baselines,
    )


def _kept(outcome: NewClassOutcome) -> str:
    """Say where the grown network is, and what loads it."""
    text = f"\nThe network grown by the {outcome.kept.replace('_', ' ')} of the first draw is in `grown.safetensors`"
    if outcome.configuration is None:
        return f"{text}.\n"
    return (
        f"{text}, and [grown.yaml](grown.yaml) loads it: {markdown_code(f'--config {outcome.configuration}')} "
        f"behind the options of a run on data whose last class is '{markdown_text(outcome.name)}'.\n"
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _mean(values: list[float], pattern: str) -> str:
    return pattern.format(sum(values) / len(values))


def _spread(values: list[float], pattern: str) -> str:
    mean = _mean(values, pattern)
    return mean if len(values) == 1 else f"{mean} ({pattern.format(min(values))} … {pattern.format(max(values))})"
