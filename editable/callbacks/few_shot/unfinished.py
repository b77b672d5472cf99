"""Rules that are tested, kept after each, so that a study that was interrupted goes on from there."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from editable.atomic import write_atomically
from editable.callbacks.few_shot.lots import Lot
from editable.callbacks.few_shot.outcome import FewShotTrial
from editable.callbacks.run.outcome_file import from_plain
from editable.callbacks.run.same_run import require_same_run
from editable.errors import UserError

__all__ = ["KEPT", "UnfinishedRules", "read_rules"]

KEPT = "few_shot.json"

_Key: TypeAlias = tuple[str, int | None, int, int | None]


class UnfinishedRules:
    """Keeps the rules that are tested, and has those that an interrupted study has left.

    Args:
        folder: Of the run.
        identity: What a rule depends on besides its way and its photographs, as JSON holds it.
        trials: What an interrupted study has left.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any], trials: list[FewShotTrial]) -> None:
        self._path, self._identity = folder / KEPT, dict(identity)
        self._finished: dict[_Key, FewShotTrial] = {
            (trial.way, trial.shots, trial.draw, trial.left_out): trial for trial in trials
        }

    def of(self, way: str, lot: Lot) -> FewShotTrial | None:
        """Return a rule that has been tested; none where it has not."""
        return self._finished.get((way, lot.shots, lot.draw, lot.left_out))

    def keep(self, trial: FewShotTrial) -> None:
        """Take a rule that has been tested, and write all, whole or not at all."""
        self._finished[trial.way, trial.shots, trial.draw, trial.left_out] = trial
        state = {"identity": self._identity, "trials": [some._asdict() for some in self._finished.values()]}
        with write_atomically(self._path) as temporary:
            temporary.write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")


def read_rules(folder: Path, identity: Mapping[str, Any]) -> list[FewShotTrial]:
    """Return the rules that an interrupted study has tested.

    Args:
        folder: Its run folder.
        identity: What rules of this study depend on.

    Raises:
        UserError: If there are none, the file is damaged, or they were rules of another study.
    """
    path = folder / KEPT
    if not path.is_file():
        raise UserError(f"few_shot.resume: there are no rules in '{folder}', which has no {path.name}")
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        there: dict[str, Any] = from_plain(state["identity"], dict[str, Any])
        trials: list[FewShotTrial] = from_plain(state["trials"], list[FewShotTrial])
        for trial in trials:
            _check(trial)
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(f"few_shot.resume: '{path}' is not what a study has left ({error})") from error
    require_same_run(f"few_shot.resume: the rules in '{folder}' are of another study", there, identity)
    return trials


def _check(trial: FewShotTrial) -> None:
    """Look at counts and strength, as far as they can be known to be wrong."""
    fits = [min(some) >= 0 and 0 < some.num_images >= max(some) for some in (trial.tested, trial.makers, trial.others)]
    right_before = trial.others.num_images - trial.others.before
    if not all(fits) or not 0 <= trial.broken <= right_before or not math.isfinite(trial.strength):
        raise ValueError(f"its rule of {trial.way} has counts that cannot be meant")
