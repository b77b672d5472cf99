"""What is told of a candidate's edit, and which is chosen."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from editable.editing.bounds.candidates import candidate_bounds
from editable.editing.choosing.trials import Trial
from editable.editing.evaluation.stream import Cost

__all__ = ["Harm", "Tried", "least_harmful", "tell"]


class Harm(NamedTuple):
    """What an edit costs on images that are neither edited nor were used for it.

    Attributes:
        num_images: Number of these images.
        error_before: Error rate of the unedited network on them.
        error_after: That of the edited network.
        broken: Positions among the judge's images of those that were right and are wrong.
        num_mended: Number of those that were wrong and are right.
        num_changed: Number of those of which another class is predicted.
        bound: Upper bound of the rate of broken images (Clopper–Pearson), whichever of the candidates is chosen.
        level: Confidence of the bound.
    """

    num_images: int
    error_before: float
    error_after: float
    broken: list[int]
    num_mended: int
    num_changed: int
    bound: float
    level: float

    @classmethod
    def of(cls, cost: Cost, positions: Tensor, bound: float, level: float) -> "Harm":
        """Tell what a change costs.

        Args:
            cost: On the images.
            positions: Of these among the judge's, int64 [N].
            bound: As in the attribute.
            level: Of the bound.
        """
        right, was_right = cost.after == cost.labels, cost.before == cost.labels
        return cls(
            len(positions),
            cost.error_before,
            cost.error,
            positions[was_right & ~right].tolist(),
            int((~was_right & right).sum()),
            cost.num_changed,
            bound,
            level,
        )

    @property
    def points(self) -> float:
        """Rise of the error rate, in percentage points."""
        return 100 * (self.error_after - self.error_before)

    def __str__(self) -> str:
        return (
            f"{100 * self.error_before:.2f} → {100 * self.error_after:.2f} % wrong of {self.num_images} other images: "
            f"{len(self.broken)} broken, {self.num_mended} mended; at most {100 * self.bound:.2f} % are broken, with "
            f"{100 * self.level:g} % confidence"
        )


class Tried(NamedTuple):
    """A candidate, and what came of it.

    Attributes:
        title: Editor and layers in words.
        success: Whether enough images have the labels asked for.
        harm: On the judge's images; none where it failed, or there is no judge.
        why: Why it could not be tried.
        num_right: Number of images that have the labels asked for.
    """

    title: str
    success: bool
    harm: Harm | None
    why: str = ""
    num_right: int = 0

    def __str__(self) -> str:
        if self.why:
            return f"{self.title}: {self.why}"
        if not self.success:
            return f"{self.title}: not all images get their labels"
        return self.title if self.harm is None else f"{self.title}: {self.harm.points:+.2f} points"


def tell(trials: Sequence[Trial], positions: Tensor, level: float) -> list[Tried]:
    """Return what came of candidates, with bounds that hold for all of them at once.

    Args:
        trials: Of all candidates.
        positions: Of the images that judged them among the judge's, int64 [N].
        level: Confidence of the bounds.
    """
    costs = [one.cost for one in trials if one.cost is not None]
    broken = torch.tensor([cost.num_broken for cost in costs])
    bounds = iter(candidate_bounds(broken, len(positions), level).tolist() if costs else ())
    return [
        Tried(
            one.candidate.title,
            one.success,
            None if one.cost is None else Harm.of(one.cost, positions, next(bounds), level),
            one.why,
            one.num_right,
        )
        for one in trials
    ]


def least_harmful(tried: Sequence[Tried]) -> int | None:
    """Return which candidate is chosen: the most labels given, the fewest images wrong, the fewest changed, the first.

    None where none succeeds.
    """

    def order(number: int) -> tuple[int, float, int]:
        own, harm = tried[number], tried[number].harm
        return -own.num_right, *((harm.error_after, harm.num_changed) if harm is not None else (0.0, 0))

    return min((number for number, one in enumerate(tried) if one.success), key=order, default=None)
