"""What a search keeps of itself after each learning rate, so that one that was interrupted can be resumed."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from editable.atomic import write_atomically
from editable.editing import RateOutcome
from editable.errors import UserError

__all__ = ["UnfinishedSearch"]

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
        except ValueError as error:
            raise UserError(f"search.resume: '{path}' cannot be read as JSON, {error}") from error
        if not isinstance(state, dict) or not state.keys() >= {"settings", "outcomes"}:
            raise UserError(f"search.resume: '{path}' is not what a search has left")
        self._state: dict[str, Any] = state

    def finished(self, settings: Mapping[str, Any]) -> dict[float, RateOutcome]:
        """Return what came out at each finished learning rate.

        Args:
            settings: What an outcome depends on in this search, as JSON holds it.

        Raises:
            UserError: If it was something else in the other search.
        """
        for name, here in settings.items():
            there = self._state["settings"].get(name)
            if there != here:
                raise UserError(
                    f"search.resume: the search in '{self._folder}' was another one, with {name} {there!r} in place of "
                    f"{here!r}; leave the option out to begin a new search"
                )
        return {row["learning_rate"]: RateOutcome(**row) for row in self._state["outcomes"]}

    @staticmethod
    def keep(folder: Path, settings: Mapping[str, Any], finished: Mapping[float, RateOutcome]) -> None:
        """Write the finished learning rates into a folder, whole or not at all."""
        state = {"settings": settings, "outcomes": [outcome._asdict() for outcome in finished.values()]}
        with write_atomically(folder / STATE) as temporary:
            temporary.write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")
