"""The outcome of a rewrite run as plain data: what was tried, what the best rewrites do, and what the figures show."""

from dataclasses import dataclass

from torch import Tensor

from editable.callbacks.rewrite.trials import RewriteTrial
from editable.callbacks.site.set_errors import SetErrors

__all__ = ["OTHERS", "MeasuredRewrite", "RewriteOutcome", "ShownChanges", "ShownExemplars", "ShownHeatMaps"]

OTHERS = "report_without_exemplars"
"""The set of reported test images that are no exemplars of the rules."""


@dataclass(frozen=True)
class MeasuredRewrite:
    """What a rewrite does on the images that are reported.

    Attributes:
        trial: The rewrite.
        labels: True labels of each set by its name, int64 [N].
        before: Labels that the unedited network predicts.
        after: Labels that the rewritten network predicts.
    """

    trial: RewriteTrial
    labels: dict[str, Tensor]
    before: dict[str, Tensor]
    after: dict[str, Tensor]

    @property
    def errors(self) -> dict[str, SetErrors]:
        """Errors on each set."""
        return {name: SetErrors.of(labels, self.before[name], self.after[name]) for name, labels in self.labels.items()}

    def corrected(self, name: str) -> Tensor:
        """Return the positions of a set's images that became right, int64 [n]."""
        labels = self.labels[name]
        return ((self.before[name] != labels) & (self.after[name] == labels)).nonzero().flatten()

    def broken(self, name: str) -> Tensor:
        """Return the positions of a set's images that became wrong, int64 [n]."""
        labels = self.labels[name]
        return ((self.before[name] == labels) & (self.after[name] != labels)).nonzero().flatten()

    def values(self) -> dict[str, float]:
        """Return all figures by name; an undefined share of corrected errors is left out."""
        values = dict(self.trial.measures) | {"strength": self.trial.strength}
        for name, errors in self.errors.items():
            values[f"num_{name}_images"] = errors.num_images
            values[f"{name}_error_before"] = errors.before / errors.num_images
            values[f"{name}_error"] = errors.after / errors.num_images
            if errors.corrected is not None:
                values[f"{name}_errors_corrected"] = errors.corrected
        drops = {"drop": self.errors["report"].drop}
        if OTHERS in self.labels:
            drops["drop_without_exemplars"] = self.errors[OTHERS].drop
        return {name: float(value) for name, value in values.items()} | drops

    def with_others(self, is_exemplar: Tensor) -> "MeasuredRewrite":
        """Return this with a further set, the reported test images that are no exemplars.

        Args:
            is_exemplar: Which of the reported images are, bool [N]; where none is, or all are, there is no such set.
        """
        if not is_exemplar.any() or is_exemplar.all():
            return self
        parts = [some | {OTHERS: some["report"][~is_exemplar]} for some in (self.labels, self.before, self.after)]
        return MeasuredRewrite(self.trial, *parts)


@dataclass(frozen=True)
class ShownExemplars:
    """The first exemplars of the rule, as they are drawn.

    Attributes:
        num_exemplars: Number of all.
        originals: Of what the new concept shall be taken for, in [0, 1], [n, C, H, W].
        manipulated: The same with the new concept in its place.
        masks: Where it is, in [0, 1], [n, H, W].
        names: Of the exemplars, n.
    """

    num_exemplars: int
    originals: Tensor
    manipulated: Tensor
    masks: Tensor
    names: list[str]


@dataclass(frozen=True)
class ShownHeatMaps:
    """Images whose keys respond most to the directions that the chosen rewrite may change.

    Attributes:
        set_name: The set that they are of besides the exemplars.
        images: In [0, 1], [n, C, H, W].
        maps: The response at each pixel, [n, H, W].
        titles: Set and position of each image, n.
    """

    set_name: str
    images: Tensor
    maps: Tensor
    titles: list[str]


@dataclass(frozen=True)
class ShownChanges:
    """Images of one set that the chosen rewrite has made right or wrong, as far as they are drawn.

    Attributes:
        positions: In the set, int64 [n].
        images: In [0, 1], [n, C, H, W].
    """

    positions: Tensor
    images: Tensor


@dataclass(frozen=True)
class RewriteOutcome:
    """What a rewrite run comes to; tensors lie on the CPU.

    Attributes:
        layers: Names of the layers that were tried.
        max_drop: Largest drop in accuracy that was allowed on the images that choose, a fraction.
        classes: Class names by label.
        target: Labels of the rule's exemplars, each once, by size.
        exemplars: The rule's first exemplars.
        trials: All that was tried, in order; empty where there was a single combination.
        rewrites: By solver and route, what the best rewrite does; the chosen one among them. Where none corrects
            anything within the drop, the one that corrects most.
        chosen: The solver, and the route, of the chosen rewrite; none where no candidate is within the drop and
            corrects anything.
        stages: Names of the modules of the chosen rewrite's block, from the layer on; empty where none is chosen.
        heat_maps: Where the chosen rewrite's directions are seen; none where none is chosen, or its layer is linear.
        changes: What became of images, by set; a set without any is left out, and all are where none is chosen.
    """

    layers: list[str]
    max_drop: float
    classes: list[str]
    target: list[int]
    exemplars: ShownExemplars
    trials: list[RewriteTrial]
    rewrites: dict[str, MeasuredRewrite]
    chosen: str | None
    stages: list[str]
    heat_maps: ShownHeatMaps | None
    changes: dict[str, ShownChanges]

    @property
    def chosen_rewrite(self) -> MeasuredRewrite | None:
        """The chosen rewrite."""
        return None if self.chosen is None else self.rewrites[self.chosen]

    def values(self) -> dict[str, float]:
        """Return the number of candidates, and all figures of the chosen rewrite, by name."""
        chosen = {} if self.chosen_rewrite is None else self.chosen_rewrite.values()
        return {"num_candidates": float(max(len(self.trials), 1))} | chosen
