"""What an interrupted run has left is gone on with by the same run alone."""

import json
from collections.abc import Mapping
from typing import Any

from editable.editing import BaseEditor
from editable.errors import UserError
from editable.models import fingerprint

__all__ = ["editor_identity", "require_same_run"]


def editor_identity(editor: BaseEditor) -> dict[str, Any]:
    """Return what is recognised of an editor, as JSON holds it: its settings, and what it has learnt besides these."""
    return {"editor": editor.description(), "constants": fingerprint(editor.state_dict())}


def require_same_run(what: str, there: Mapping[str, Any], here: Mapping[str, Any], anew: str = "begin anew") -> None:
    """Refuse what another run has left.

    Args:
        what: The option, what was left, and that it is another's, in words.
        there: What that run depended on, as read from JSON.
        here: What this one depends on, as JSON holds it.
        anew: What is done without the option.

    Raises:
        UserError: If something of ``here`` was otherwise there.
    """
    for name, value in json.loads(json.dumps(here)).items():
        if there.get(name) != value:
            raise UserError(
                f"{what}, with {name} {there.get(name)!r} in place of {value!r}; leave the option out to {anew}"
            )
