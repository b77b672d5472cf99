"""What a search keeps of itself after each learning rate, so that one that was interrupted can be resumed."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from editable.atomic import write_atomically
from editable.callbacks.run.outcome_file import from_plain
from editable.callbacks.run.same_run import require_same_run
from editable.editing import RateOutcome
from editable.errors import UserError

__all__ = ["STATE", "UnfinishedSearch"]

STATE = "search.json"


class UnfinishedSearch:
    """The finished learning rates of another search, read from its folder.

    Args:
        folder: Of the other search.

    Raises:
        UserError: If the folder holds no search.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = folder
        path = Path(folder) / STATE
        if not path.is_file():
            raise UserError(f"search.resume: there is no search in '{path.parent}', which has no {STATE}")
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"search.resume: '{path}' cannot be read as JSON, {error}") from error
        try:
            self._settings, self._outcomes = _of(state)
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(f"search.resume: '{path}' is not what a search has left ({error})") from error

    def finished(self, settings: Mapping[str, Any]) -> dict[float, RateOutcome]:
        """Return what came out at each finished learning rate.

        Args:
            settings: What an outcome depends on in this search, as JSON holds it.

        Raises:
            UserError: If it was something else in the other search.
        """
        what = f"search.resume: the search in '{self._folder}' was another one"
        require_same_run(what, self._settings, settings, "begin a new search")
        return {outcome.learning_rate: outcome for outcome in self._outcomes}

    @staticmethod
    def keep(folder: Path, settings: Mapping[str, Any], finished: Mapping[float, RateOutcome]) -> None:
        """Write the finished learning rates into a folder, whole or not at all."""
        state = {"settings": settings, "outcomes": [outcome._asdict() for outcome in finished.values()]}
        with write_atomically(folder / STATE) as temporary:
            temporary.write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")


def _of(state: Any) -> tuple[dict[str, Any], list[RateOutcome]]:
    """Return the settings and outcomes of a search, looked at as far as they can be known to be wrong."""
    outcomes: list[RateOutcome] = from_plain(state["outcomes"], list[RateOutcome])
    for one in outcomes:
        means = (one.learning_rate, one.success_rate, one.num_steps, one.drawdown)
        if not (all(map(math.isfinite, means)) and one.learning_rate > 0 and 0 <= one.success_rate <= 1):
            raise ValueError(f"its outcome at the learning rate {one.learning_rate} cannot be meant")
    return from_plain(state["settings"], dict[str, Any]), outcomes
