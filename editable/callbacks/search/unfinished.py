"""What a search keeps of itself after each learning rate, so that one that was interrupted can be resumed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from editable.callbacks.run.kept_json import read_kept, write_kept
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
        self._settings: dict[str, Any]
        self._outcomes: list[RateOutcome]
        try:
            self._settings, self._outcomes = read_kept(path, settings=dict[str, Any], outcomes=list[RateOutcome])
        except (OSError, ValueError) as error:
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
        write_kept(folder / STATE, settings=settings, outcomes=list(finished.values()))
