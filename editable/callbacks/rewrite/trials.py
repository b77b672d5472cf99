"""Rewrites that were tried: what each was, what it came to on the images that choose, and the choice among them."""

from collections.abc import Sequence
from typing import NamedTuple

from editable.callbacks.site.set_errors import SetErrors
from editable.callbacks.site.site import Route
from editable.rewriting import Candidate, RewriteResult, choose_candidate

__all__ = [
    "RewriteTrial",
    "TrialSettings",
    "best_trial",
    "measures_of",
    "standing_trials",
]


class TrialSettings(NamedTuple):
    """What makes a rewrite another one than the others.

    Attributes:
        layer: Name of the rewritten layer.
        solver: Position of the solver among those that are tried.
        rank: Number of directions that the solver is given.
        route: Where its keys come from.
    """

    layer: str
    solver: int
    rank: int
    route: Route = "images"


class RewriteTrial(NamedTuple):
    """One rewrite at one strength, and what it came to on the images that choose among rewrites.

    Attributes:
        settings: Which rewrite.
        solver: Its solver as a reader knows it, with the route where there are several.
        strength: Scale s on the update, θ₀ + s·Δθ.
        target: Errors on images with the new concept; none where nothing was to choose.
        others: Errors on other images.
        measures: Of the rewrite at strength 1, by name: see :class:`editable.rewriting.RewriteResult`.
    """

    settings: TrialSettings
    solver: str
    strength: float
    target: SetErrors | None = None
    others: SetErrors | None = None
    measures: dict[str, float] = {}  # noqa: RUF012  never changed in place


def measures_of(result: RewriteResult) -> dict[str, float]:
    """Return the measures of a rewrite by name: all that is a number."""
    return {name: value for name, value in result._asdict().items() if isinstance(value, int | float)}


def best_trial(trials: Sequence[RewriteTrial], max_drop: float) -> RewriteTrial | None:
    """Return the trial that the selection rule chooses, see :func:`editable.rewriting.choose_candidate`."""
    candidates = [
        Candidate({"position": position}, trial.strength, trial.target.corrected, trial.others.drop)
        for position, trial in enumerate(trials)
        if trial.target is not None and trial.others is not None
    ]
    chosen = choose_candidate(candidates, max_drop)
    return None if chosen is None else trials[chosen.settings["position"]]


def _standing(trials: Sequence[RewriteTrial], max_drop: float) -> RewriteTrial:
    """Return the trial that stands for its solver and route: the best one, or where none qualifies, the next best.

    Where no trial corrects anything within the drop, it is the one that corrects most at whatever drop, and among these
    that of the smallest drop.
    """
    best = best_trial(trials, max_drop)
    if best is not None:
        return best
    counted = [(trial, trial.target, trial.others) for trial in trials if trial.target and trial.others]
    return min(counted, key=lambda some: (-(some[1].corrected or 0.0), some[2].drop))[0]


def standing_trials(trials: Sequence[RewriteTrial], max_drop: float) -> list[RewriteTrial]:
    """Return the trial that stands for each solver and route, in the order in which these were first tried."""
    by_solver: dict[str, list[RewriteTrial]] = {}
    for trial in trials:
        by_solver.setdefault(trial.solver, []).append(trial)
    return [_standing(some, max_drop) for some in by_solver.values()]
