"""Where rules are made, their strength is chosen without the tested class, and they are tested."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from editable.callbacks.few_shot.lots import Lot
from editable.callbacks.few_shot.outcome import FewShotTrial, KeptRule
from editable.callbacks.few_shot.ways import Way
from editable.callbacks.site.predictions import RewrittenPredictions
from editable.callbacks.site.set_errors import SetErrors

__all__ = ["Workbench"]

PHOTOGRAPHS = "photographs"


class Chosen(NamedTuple):
    """A rule at the strength that was chosen: what is then wrong.

    Attributes:
        strength: 0 for none.
        photographs: Predicted labels of all photographs, int64 [N].
        others: The same of the images that choose, and of those that are reported, by name.
    """

    strength: float
    photographs: Tensor
    others: dict[str, Tensor]


class Workbench:
    """Makes and tests the rules of one way; features before the layers that it changes are computed once.

    Args:
        network: The network, on the device where everything is to run.
        way: How rules are made.
        photographs: All of them, with labels.
        others: Other labelled images: those that ``choose`` the strength, and those to ``report``.
        strengths: Scales to try.
        max_drop: Largest drop in accuracy on the images that choose.
        batch_size: Number of images run at once.
        memory_budget: In bytes, for features.
    """

    def __init__(
        self,
        network: nn.Module,
        way: Way,
        photographs: Dataset,
        others: Mapping[str, Dataset],
        strengths: Sequence[float],
        max_drop: float,
        batch_size: int,
        memory_budget: int,
    ) -> None:
        self._network, self._way = network, way
        self._strengths, self._max_drop = strengths, max_drop
        self._photographs = RewrittenPredictions(
            network, way.names, {PHOTOGRAPHS: photographs}, batch_size, memory_budget // 10
        )
        self._others = RewrittenPredictions(network, way.names, others, batch_size, memory_budget)
        self.labels = self._photographs.labels[PHOTOGRAPHS]

    def close(self) -> None:
        """Let go of the kept features."""
        self._photographs.close()
        self._others.close()

    def test(self, lot: Lot) -> FewShotTrial:
        """Make a rule, choose its strength, and look at what it does to the class left out and to other images."""
        chosen = self._choose(lot, self._way(lot.makers, lot.unseen))
        assert lot.left_out is not None, "a class is left out to test it"
        tested = self.labels == lot.left_out
        return FewShotTrial(
            self._way.label,
            lot.shots,
            lot.draw,
            lot.left_out,
            chosen.strength,
            self._errors(chosen.photographs, tested.nonzero().flatten()),
            self._errors(chosen.photographs, lot.makers),
            *self._harm(chosen),
        )

    def keep(self, lot: Lot) -> tuple[KeptRule, dict[str, Tensor]] | None:
        """Make a rule to keep, at the strength that is chosen without the class that counts, each in turn.

        Returns:
            What it comes to, and the changed parameters by name, on the CPU; none where it corrects nothing, or costs
            more than the allowed drop on the images that choose, or on those that are reported: an editor may have been
            trained on the former.
        """
        rule = self._way(lot.makers, lot.unseen)
        chosen = self._choose(lot, rule)
        makers, (others, broken) = self._errors(chosen.photographs, lot.makers), self._harm(chosen)
        if makers.after >= makers.before or max(self._drop(chosen), others.drop) > self._max_drop:
            return None
        params = self._scaled(chosen.strength, rule)
        kept = KeptRule(self._way.label, chosen.strength, makers, others, broken)
        return kept, {name: some.cpu() for name, some in params.items()}

    def _choose(self, lot: Lot, rule: Mapping[str, Tensor]) -> Chosen:
        """Choose the strength of the makers' rule that corrects most without the tested class, within the drop.

        Counted are the makers' classes, each by a rule that was made without it, and the makers themselves by the rule
        that they make. A single strength is taken as it is. Of strengths that correct equally many, the smallest is
        chosen.
        """
        (least, *more) = sorted(self._strengths)
        if not more:
            return self._at(least, rule)
        gained = self._gained(lot)
        for strength in gained:
            own = self._errors(self._predicted(strength, rule), lot.makers)
            gained[strength] += own.before - own.after
        chosen = Chosen(0.0, self._photographs.unedited[PHOTOGRAPHS], self._others.unedited)
        most = 0
        for strength in (least, *more):
            if gained[strength] > most:
                tried = self._at(strength, rule)
                if self._drop(tried) <= self._max_drop:
                    chosen, most = tried, gained[strength]
        return chosen

    def _gained(self, lot: Lot) -> dict[float, int]:
        """Return how many errors each strength corrects in the makers' classes, by rules made without the class."""
        gained = dict.fromkeys(self._strengths, 0)
        for label in self.labels[lot.makers].unique().tolist():
            rule = self._way(lot.without(label, self.labels), [*lot.unseen, label])
            own = (self.labels == label).nonzero().flatten()
            for strength in self._strengths:
                errors = self._errors(self._predicted(strength, rule), own)
                gained[strength] += errors.before - errors.after
        return gained

    def _drop(self, chosen: Chosen) -> float:
        """Return the drop in accuracy on the images that choose, a fraction."""
        labels = self._others.labels["choose"]
        return SetErrors.of(labels, self._others.unedited["choose"], chosen.others["choose"]).drop

    def _harm(self, chosen: Chosen) -> tuple[SetErrors, int]:
        """Return errors on the images that are reported, and how many of these are broken."""
        before, labels = self._others.unedited["report"], self._others.labels["report"]
        after = chosen.others["report"]
        return SetErrors.of(labels, before, after), int(((before == labels) & (after != labels)).sum())

    def _at(self, strength: float, rule: Mapping[str, Tensor]) -> Chosen:
        return Chosen(strength, self._predicted(strength, rule), self._others(self._scaled(strength, rule)))

    def _predicted(self, strength: float, rule: Mapping[str, Tensor]) -> Tensor:
        return self._photographs(self._scaled(strength, rule))[PHOTOGRAPHS]

    @torch.no_grad()
    def _scaled(self, strength: float, rule: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return θ₀ + s·Δθ."""
        return {
            name: torch.lerp(self._network.get_parameter(name), changed, strength) for name, changed in rule.items()
        }

    def _errors(self, predicted: Tensor, places: Tensor) -> SetErrors:
        before = self._photographs.unedited[PHOTOGRAPHS]
        return SetErrors.of(self.labels[places], before[places], predicted[places])
