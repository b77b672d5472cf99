"""Choosing among rewrites by validation data: the one that corrects most and costs next to no accuracy elsewhere."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from editable.errors import require_at_least, require_within

__all__ = ["Candidate", "choose_candidate", "errors_corrected"]


class Candidate(NamedTuple):
    """A rewrite, and what it came to on validation data.

    Attributes:
        settings: What makes it another rewrite than the others, by name: solver, layer, rank, learning rate, steps.
        strength: The scale s on the update, W₀ + s·ΔW.
        corrected: Part of the errors on the target's validation images that is corrected, see :func:`errors_corrected`;
            none where there were no errors.
        drop: Accuracy on all validation images before minus after, a fraction; negative where it rises.
    """

    settings: Mapping[str, Any]
    strength: float
    corrected: float | None
    drop: float


def errors_corrected(before: int, after: int) -> float | None:
    """Return the part of the errors that a rewrite has corrected, (before − after) / before.

    Args:
        before: Number of errors of the original network.
        after: Number of errors of the rewritten network on the same images.

    Returns:
        A fraction, at most 1 and negative where errors were added; none where there was no error before, as nothing
        could be corrected then.

    Raises:
        UserError: If a number is negative.
    """
    require_at_least(0, before=before, after=after)
    return (before - after) / before if before else None


def choose_candidate(candidates: Iterable[Candidate], max_drop: float = 0.0025) -> Candidate | None:
    """Return the rewrite that corrects most errors at an overall drop in accuracy of at most a quarter of a point.

    The selection rule of Santurkar et al. 2021 ("Editing a classifier by rewriting its prediction rules"), on
    validation data only. Among equals the one of smaller drop is chosen, then the one of smaller strength, then the
    first. A rewrite that corrects nothing is never chosen: leaving the network as it is does no worse.

    Args:
        candidates: All rewrites tried: steps, learning rates, layers, ranks, strengths.
        max_drop: Largest drop allowed, a fraction: 0.0025 is a quarter of a point.

    Returns:
        The chosen one; none where no rewrite within the limit corrects an error.

    Raises:
        UserError: If the limit is no difference of fractions.
    """
    require_within("[-1, 1]", max_drop=max_drop)
    slack = 1e-9  # a drop is the difference of two rounded fractions: 0.9 - 0.8975 > 0.0025
    allowed = [
        (-candidate.corrected, candidate.drop, candidate.strength, index, candidate)
        for index, candidate in enumerate(candidates)
        if candidate.corrected is not None and candidate.corrected > 0 and candidate.drop <= max_drop + slack
    ]
    return min(allowed)[-1] if allowed else None
