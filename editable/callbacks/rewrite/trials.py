"""Rewrites that were tried: what each was, what it came to on the images that choose, and the choice among them."""

import inspect
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from editable.atomic import write_atomically, write_csv
from editable.callbacks.site.site import Route
from editable.errors import UserError
from editable.rewriting import Candidate, RewriteResult, Solver, choose_candidate, errors_corrected

__all__ = [
    "RewriteOutcome",
    "RewriteTrial",
    "SetErrors",
    "TrialSettings",
    "best_trial",
    "measures_of",
    "read_trials",
    "solver_label",
    "standing_trial",
    "write_trials",
]


class SetErrors(NamedTuple):
    """Errors on a set of images before and after a rewrite.

    Attributes:
        num_images: Number of images.
        before: How many the unedited network gets wrong.
        after: How many the rewritten network gets wrong.
    """

    num_images: int
    before: int
    after: int

    @staticmethod
    def of(labels: Tensor, before: Tensor, after: Tensor) -> "SetErrors":
        """Count errors of predicted labels, each int64 [N]."""
        return SetErrors(len(labels), int((before != labels).sum()), int((after != labels).sum()))

    @property
    def corrected(self) -> float | None:
        """Part of the errors that is corrected, net of new ones; none where there was none before."""
        return errors_corrected(self.before, self.after)

    @property
    def drop(self) -> float:
        """Drop in accuracy, a fraction."""
        return (self.after - self.before) / self.num_images


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


class RewriteOutcome(NamedTuple):
    """What a rewrite does on the images that are reported.

    Attributes:
        trial: The rewrite.
        params: The changed parameters by name.
        labels: True labels of each set by its name, int64 [N].
        before: Labels that the unedited network predicts.
        after: Labels that the rewritten network predicts.
    """

    trial: RewriteTrial
    params: dict[str, Tensor]
    labels: dict[str, Tensor]
    before: dict[str, Tensor]
    after: dict[str, Tensor]

    @property
    def errors(self) -> dict[str, SetErrors]:
        """Errors on each set."""
        return {name: SetErrors.of(labels, self.before[name], self.after[name]) for name, labels in self.labels.items()}

    def values(self) -> dict[str, float]:
        """Return all figures by name; an undefined share of corrected errors is left out."""
        values = dict(self.trial.measures) | {"strength": self.trial.strength}
        for name, errors in self.errors.items():
            values[f"num_{name}_images"] = errors.num_images
            values[f"{name}_error_before"] = errors.before / errors.num_images
            values[f"{name}_error"] = errors.after / errors.num_images
            if errors.corrected is not None:
                values[f"{name}_errors_corrected"] = errors.corrected
        return {name: float(value) for name, value in values.items()} | {"drop": self.errors["report"].drop}


def measures_of(result: RewriteResult) -> dict[str, float]:
    """Return the measures of a rewrite by name: all that is a number."""
    return {name: value for name, value in result._asdict().items() if isinstance(value, int | float)}


def solver_label(solver: Solver) -> str:
    """Return how a solver is called: its class, with the arguments in which it differs from the default."""
    parameters = inspect.signature(type(solver)).parameters.values()
    given = {parameter.name: getattr(solver, parameter.name, parameter.default) for parameter in parameters}
    changed = [f"{some.name}={given[some.name]}" for some in parameters if given[some.name] != some.default]
    return f"{type(solver).__name__}({', '.join(changed)})" if changed else type(solver).__name__


def best_trial(trials: Sequence[RewriteTrial], max_drop: float) -> RewriteTrial | None:
    """Return the trial that the selection rule chooses, see :func:`editable.rewriting.choose_candidate`."""
    candidates = [
        Candidate({"position": position}, trial.strength, trial.target.corrected, trial.others.drop)
        for position, trial in enumerate(trials)
        if trial.target is not None and trial.others is not None
    ]
    chosen = choose_candidate(candidates, max_drop)
    return None if chosen is None else trials[chosen.settings["position"]]


def standing_trial(trials: Sequence[RewriteTrial], max_drop: float) -> RewriteTrial:
    """Return the trial that stands for its solver and route: the best one, or where none qualifies, the next best.

    Where no trial corrects anything within the drop, it is the one that corrects most at whatever drop, and among these
    that of the smallest drop.
    """
    best = best_trial(trials, max_drop)
    if best is not None:
        return best
    counted = [(trial, trial.target, trial.others) for trial in trials if trial.target and trial.others]
    return min(counted, key=lambda some: (-(some[1].corrected or 0.0), some[2].drop))[0]


def write_trials(folder: Path, identity: dict[str, Any], trials: Sequence[RewriteTrial]) -> None:
    """Keep trials as ``candidates.json``, to go on from, and as ``candidates.csv``, to be read.

    Args:
        folder: Where the files go.
        identity: What the trials depend on besides their settings.
        trials: All trials so far.
    """
    state = {"identity": identity, "trials": [trial._asdict() for trial in trials]}
    with write_atomically(folder / "candidates.json") as temporary:
        temporary.write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")
    write_csv(folder / "candidates.csv", _rows(trials))


def read_trials(folder: Path, identity: dict[str, Any]) -> list[RewriteTrial]:
    """Return the trials that an interrupted run has left.

    Args:
        folder: Its run folder.
        identity: What trials of this run depend on.

    Raises:
        UserError: If there are none, the file is damaged, or they were trials of something else.
    """
    path = folder / "candidates.json"
    if not path.is_file():
        raise UserError(f"rewrite.resume: there are no candidates in '{folder}', which has no {path.name}")
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        there, trials = dict(state["identity"]), [_trial(row) for row in state["trials"]]
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"rewrite.resume: '{path}' is not what a rewrite has left ({error})") from error
    for name, here in json.loads(json.dumps(identity)).items():
        if there.get(name) != here:
            raise UserError(
                f"rewrite.resume: the candidates in '{folder}' are of another rewrite, with {name} "
                f"{there.get(name)!r} in place of {here!r}; leave the option out to begin anew"
            )
    return trials


def _trial(row: dict[str, Any]) -> RewriteTrial:
    fields = {"settings": TrialSettings(*row["settings"]), "target": SetErrors(*row["target"])}
    return RewriteTrial(**{**row, **fields, "others": SetErrors(*row["others"])})


def _rows(trials: Sequence[RewriteTrial]) -> Iterator[list[Any]]:
    measures = list(trials[0].measures) if trials else []
    counts = [f"{name}_{field}" for name in ("target", "others") for field in SetErrors._fields]
    yield [
        "layer",
        "solver",
        "route",
        "rank",
        "strength",
        "corrected",
        "drop",
        *counts,
        *(f"rewrite_{name}" for name in measures),
    ]
    for trial in trials:
        if trial.target is None or trial.others is None:
            raise ValueError("trials are kept where there is a choice, and then have errors")
        yield [
            trial.settings.layer,
            trial.solver,
            trial.settings.route,
            trial.settings.rank,
            trial.strength,
            trial.target.corrected,
            trial.others.drop,
            *trial.target,
            *trial.others,
            *(trial.measures[name] for name in measures),
        ]
