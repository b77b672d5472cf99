"""Finished candidates in files, and the identity that says whether an interrupted run may go on from them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from editable.callbacks.rewrite.candidates import Candidates
from editable.callbacks.rewrite.image_sets import ChooseOn
from editable.callbacks.rewrite.trials import RewriteTrial
from editable.callbacks.run.kept_json import read_kept, write_kept
from editable.callbacks.run.same_run import require_same_run
from editable.callbacks.run.titles import title_of
from editable.callbacks.site.rule_images import RuleImages
from editable.callbacks.site.set_errors import SetErrors
from editable.errors import UserError
from editable.models import fingerprint
from editable.rewriting import Architecture
from editable.tables import Table

__all__ = ["KEPT", "check_trials", "read_trials", "trials_identity", "write_trials"]

KEPT = "candidates.json"


def trials_identity(
    network: nn.Module,
    candidates: Candidates,
    keys: str,
    architecture: Architecture,
    moment: Mapping[str, Any],
    rule: RuleImages,
    exemplars: Tensor,
    target: str,
    choose_on: ChooseOn,
    others: str,
    seed: int,
) -> dict[str, Any]:
    """Return what a candidate's outcome depends on besides its settings, as JSON holds it.

    Args:
        network: The unedited network.
        candidates: All that are tried.
        keys: What a key is the mean of.
        architecture: Of the memory.
        moment: What second moments depend on.
        rule: Exemplars that make the rewrites.
        exemplars: Of all rules, among which harm is not counted.
        target: What images with the new concept that choose are recognised by.
        choose_on: What the other images that choose are, ...
        others: ... and what they are recognised by.
        seed: Of their draw.
    """
    return {
        "weights": fingerprint(network.state_dict()),
        "solvers": [title_of(solver) for solver in candidates.solvers],
        "strengths": candidates.strengths,
        "routes": candidates.routes,
        "keys": keys,
        "architecture": architecture,
        "rule": fingerprint(rule._asdict()),
        "exemplars": fingerprint({"exemplars": exemplars}),
        "target": target,
        **moment,
        "choose_on": [choose_on, others],
        "seed": seed,
    }


def write_trials(folder: Path, identity: dict[str, Any], trials: Sequence[RewriteTrial]) -> None:
    """Keep trials as ``candidates.json``, to go on from, and as ``candidates.csv``, to be read.

    Args:
        folder: Where the files go.
        identity: What the trials depend on besides their settings.
        trials: All trials so far.
    """
    write_kept(folder / KEPT, identity=identity, trials=list(trials))
    _table(trials).write_csv(folder / "candidates.csv")


def read_trials(folder: Path, identity: dict[str, Any]) -> list[RewriteTrial]:
    """Return the trials that an interrupted run has left.

    Args:
        folder: Its run folder.
        identity: What trials of this run depend on.

    Raises:
        UserError: If there are none, the file is damaged, or they were trials of something else.
    """
    there, trials = _read(folder)
    require_same_run(f"rewrite.resume: the candidates in '{folder}' are of another rewrite", there, identity)
    return trials


def check_trials(folder: Path) -> None:
    """Look whether an interrupted run has left trials that can be read, before anything is computed.

    Raises:
        UserError: If there are none, or the file is damaged.
    """
    _read(folder)


def _read(folder: Path) -> tuple[dict[str, Any], list[RewriteTrial]]:
    path = folder / KEPT
    if not path.is_file():
        raise UserError(f"rewrite.resume: there are no candidates in '{folder}', which has no {path.name}")
    try:
        identity, trials = read_kept(path, identity=dict[str, Any], trials=list[RewriteTrial])
    except (OSError, ValueError) as error:
        raise UserError(f"rewrite.resume: '{path}' is not what a rewrite has left ({error})") from error
    return identity, trials


def _table(trials: Sequence[RewriteTrial]) -> Table:
    measures = list(trials[0].measures) if trials else []
    counts = [f"{name}_{field}" for name in ("target", "others") for field in SetErrors._fields]
    names = ["layer", "solver", "route", "rank", "strength", "corrected", "drop", *counts]
    return Table([*names, *(f"rewrite_{name}" for name in measures)], [_row(trial, measures) for trial in trials])


def _row(trial: RewriteTrial, measures: Sequence[str]) -> list[Any]:
    if trial.target is None or trial.others is None:
        raise ValueError("trials are kept where there is a choice, and then have errors")
    return [
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
