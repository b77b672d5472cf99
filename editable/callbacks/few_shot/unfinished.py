"""Rules that are tested, kept after each, so that a study that was interrupted goes on from there."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from editable.callbacks.few_shot.lots import Lot
from editable.callbacks.few_shot.outcome import FewShotTrial
from editable.callbacks.run.kept_json import read_kept, write_kept
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
        write_kept(self._path, identity=self._identity, trials=list(self._finished.values()))


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
        there, trials = read_kept(path, identity=dict[str, Any], trials=list[FewShotTrial])
    except (OSError, ValueError) as error:
        raise UserError(f"few_shot.resume: '{path}' is not what a study has left ({error})") from error
    require_same_run(f"few_shot.resume: the rules in '{folder}' are of another study", there, identity)
    return trials
