"""A promise: an edit, a candidate or a stream is kept only if an upper bound of its harm is within a budget."""

import sys
from dataclasses import dataclass
from typing import Literal, NamedTuple

from editable.editing.bounds.binomial import bound_at_risk, images_needed, images_needed_at_risk
from editable.editing.bounds.streams import stream_risk
from editable.errors import UserError, require_at_least, require_within

__all__ = ["Decision", "HarmBudget", "Spending"]


class Spending(NamedTuple):
    """What a stream has spent of its risk so far: plain numbers, to go on from.

    Attributes:
        tested: How many edits were decided on.
        refused: How many of them were refused.
    """

    tested: int = 0
    refused: int = 0


class Decision(NamedTuple):
    """Whether an edit is kept, and why.

    Attributes:
        kept: Whether the bound is within the budget.
        bound: Upper bound of the harm, as a fraction of images.
        level: At which this bound holds by itself, so that all together hold at the budget's level.
        needed: How many images would have been enough for this decision, had none of them been counted.
        spent: What to go on from, in a stream.
    """

    kept: bool
    bound: float
    level: float
    needed: int
    spent: Spending = Spending()


@dataclass(frozen=True)
class HarmBudget:
    """The largest harm that is allowed, and how sure one has to be that it is not exceeded.

    Harm is the rate of images, like those counted, that an edited network breaks: right before, wrong now, always
    against the unedited network. Where there are no labels it is the rate of changed predictions, which is at least as
    high; for a codebook, that of images that fire.

    The bound speaks for images like those that were counted, drawn independently, and for no shift. Images that were
    edited, or that chose an editor, a constant or a threshold, give no bound: take others. Among candidates on the same
    images one may choose where their number is said; so too along a stream, whose edits after a refusal depend on what
    was found: see :func:`stream_risk`.

    Attributes:
        budget: Largest fraction of images, in (0, 1); 0.005 is half a point.
        level: The probability that the bounds hold, all of one decision or of one stream together.
        counts: What is counted, for reports: ``broken`` images, which takes labels, or ``changed`` predictions.

    Raises:
        UserError: If a number is not in (0, 1), or another thing is counted.

    Example:
        >>> budget = HarmBudget(0.005)
        >>> [budget.decide(broken, 5000).kept for broken in (10, 30)]
        [True, False]
        >>> spent = None
        >>> for broken in (1, 40, 2):
        ...     decision = budget.decide_next(broken, 5000, spent)
        ...     spent = decision.spent
        >>> spent
        Spending(tested=3, refused=1)
    """

    budget: float = 0.005
    level: float = 0.95
    counts: Literal["broken", "changed"] = "broken"

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.counts not in ("broken", "changed"):
            raise UserError(f"counts must be 'broken' or 'changed', got {self.counts!r}")
        for name in ("level", "budget"):
            if getattr(self, name) is None:
                raise UserError(f"{name} must be a number in (0, 1), got None")
        require_within("(0, 1)", level=self.level)
        require_within("[0, 1)", budget=self.budget)
        if self.budget == 0:
            raise UserError(
                f"budget must be above 0, got {self.budget}: no number of images shows that there is no harm at all; "
                f"0.0025, a quarter of a point, takes {images_needed(0.0025, self.level)} images, none of them "
                f"{self.counts}"
            )

    def decide(self, count: int, num_images: int, candidates: int = 1) -> Decision:
        """Decide on one edit, or on the best of some candidates that were counted on the same images.

        Args:
            count: How many images it has broken or changed.
            num_images: How many were looked at.
            candidates: Among how many it was chosen on these images.

        Raises:
            UserError: If a number is out of its range, or so few images could never show that harm is within the
                budget.
        """
        require_at_least(1, candidates=candidates)
        risk = (1 - self.level) / candidates
        self._require_images(num_images, risk)
        return self._decide(count, num_images, risk, Spending())

    def decide_next(self, count: int, num_images: int, spent: Spending | None = None) -> Decision:
        """Decide on the next edit of a stream, by the harm of the network after it; if refused, it is taken back.

        Args:
            count: How many images are broken or changed after this edit and all that were kept before it.
            num_images: How many were looked at: the same ones for all edits.
            spent: What the last decision has left; before the first, nothing.

        Raises:
            UserError: If a number is out of its range, or so few images could not even show it of the first edit.
        """
        spent = spent or Spending()
        require_at_least(0, tested=spent.tested, refused=spent.refused)
        risk = stream_risk(1 - self.level, spent.tested + 1, spent.refused)
        if not spent.tested:
            self._require_images(num_images, risk)
        return self._decide(count, num_images, risk, spent)

    def require_stream(self, num_images: int, num_edits: int) -> None:
        """Raise a :class:`UserError` where a stream would break the budget though no image is ever broken.

        Args:
            num_images: How many images judge it.
            num_edits: How many edits it has.
        """
        require_at_least(1, num_edits=num_edits)
        self._require_images(
            num_images, stream_risk(1 - self.level, num_edits, 0), f" after {num_edits} edits" if num_edits > 1 else ""
        )

    def _decide(self, count: int, num_images: int, risk: float, spent: Spending) -> Decision:
        bound = float(bound_at_risk(count, num_images, risk))
        kept = bound <= self.budget
        needed = images_needed_at_risk(self.budget, max(risk, sys.float_info.min))
        after = Spending(spent.tested + 1, spent.refused + (not kept))
        return Decision(kept, bound, 1 - risk, needed, after)

    def _require_images(self, num_images: int, risk: float, when: str = "") -> None:
        require_at_least(1, num_images=num_images)
        needed = images_needed_at_risk(self.budget, risk)
        if num_images < needed:
            raise UserError(
                f"{num_images} images cannot show{when} that harm is at most {100 * self.budget:g} points at a level "
                f"of {100 * self.level:g} %, even if none of them is {self.counts}: give at least {needed}, or a "
                "larger budget"
            )
