"""Rewrites side by side on the same images: what each corrects by the true labels, and by the prediction before."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from editable.callbacks.rewrite.outcome import MeasuredRewrite
from editable.callbacks.site.set_errors import SetErrors
from editable.tables import Table

__all__ = ["ComparedErrors", "RouteComparison", "compare_errors"]

GROUPS = {"target": "Target class", "others": "Other classes"}


class ComparedErrors(NamedTuple):
    """Errors on images with the new concept, of the target class or of the others, before and after a rewrite.

    Attributes:
        truth: A prediction is wrong where it is not the true label.
        prediction: A prediction is wrong where it is not what the unedited network predicts of the same image without
            the new concept.
    """

    truth: SetErrors
    prediction: SetErrors


def compare_errors(
    labels: Tensor, predicted: Tensor, before: Tensor, after: Tensor, target: Tensor
) -> dict[str, ComparedErrors]:
    """Count errors of the target class and of the others, by the true labels and by the prediction before the edit.

    An image counts as one of the target class where the label by which it is judged is a target: the true one, or the
    predicted one. So both counts may be of different images.

    Args:
        labels: True labels, int64 [N], as all others.
        predicted: What the unedited network predicts of the images without the new concept.
        before: What it predicts of them with the new concept.
        after: What the rewritten network predicts of them with the new concept.
        target: Labels of the target class, or of several, int64 [T].

    Returns:
        For ``target`` and ``others``.

    Source: Elango 2021, tables 2.3 and 2.4.
    """
    compared = {}
    for name in GROUPS:
        parts = []
        for reference in (labels, predicted):
            chosen = torch.isin(reference, target, invert=name == "others")
            parts.append(SetErrors.of(reference[chosen], before[chosen], after[chosen]))
        compared[name] = ComparedErrors(*parts)
    return compared


class RouteComparison:
    """Rewrites of a run as the two tables of the source.

    Args:
        rewrites: By solver and route, on the sets ``trial``, ``trial_originals`` and ``report``.
        target: Labels of the target class, or of several.

    Attributes:
        overall: Errors of each on the set ``report``.
        compared: Errors of each by :func:`compare_errors`.
    """

    def __init__(self, rewrites: Mapping[str, MeasuredRewrite], target: Sequence[int]) -> None:
        self.overall = {name: rewrite.errors["report"] for name, rewrite in rewrites.items()}
        self.compared = {
            name: compare_errors(
                rewrite.labels["trial"],
                rewrite.before["trial_originals"],
                rewrite.before["trial"],
                rewrite.after["trial"],
                torch.tensor(sorted(set(target))),
            )
            for name, rewrite in rewrites.items()
        }

    def table(self, group: str) -> Table:
        """Return a table as it is read; of ``target`` or ``others``."""
        judged = ("true labels", "prediction before the edit")
        columns = [text for by in judged for text in (f"accuracy, by {by}", "errors corrected")]
        rows: list[list[str]] = []
        for name, compared in self.compared.items():
            if not rows:
                parts = [text for errors in compared[group] for text in (_accuracy(errors, errors.before), "–")]
                rows.append(["before the edit", *parts, _accuracy(self.overall[name], self.overall[name].before)])
            parts = [text for errors in compared[group] for text in (_accuracy(errors, errors.after), _part(errors))]
            rows.append([name, *parts, _accuracy(self.overall[name], self.overall[name].after)])
        return Table([GROUPS[group], *columns, "overall accuracy"], rows)

    def counts(self) -> Table:
        """Return the same as counts, for a file."""
        columns = ["rewrite", "images", "judged_by", "num_images", "errors_before", "errors_after", "errors_corrected"]
        rows: list[list[str | int | float | None]] = []
        for name, compared in self.compared.items():
            for group, both in compared.items():
                for judged_by, errors in zip(ComparedErrors._fields, both, strict=True):
                    rows.append([name, group, judged_by, *errors, errors.corrected])
            rows.append([name, "overall", "truth", *self.overall[name], self.overall[name].corrected])
        return Table(columns, rows)

    def bars(self) -> dict[str, list[float | None]]:
        """Return parts of errors that are corrected, one for each rewrite, by what they are of."""
        return {
            f"{GROUPS[group].lower()}, by {words}": [
                getattr(compared[group], judged_by).corrected for compared in self.compared.values()
            ]
            for group in GROUPS
            for judged_by, words in (("truth", "true labels"), ("prediction", "prediction before"))
        }


def _accuracy(errors: SetErrors, wrong: int) -> str:
    if not errors.num_images:
        return "no images"
    right = errors.num_images - wrong
    return f"{100 * right / errors.num_images:.2f} % ({right} of {errors.num_images})"


def _part(errors: SetErrors) -> str:
    return "undefined" if errors.corrected is None else f"{100 * errors.corrected:.2f} %"
