"""Names near to a misspelt one."""

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["did_you_mean", "near_name"]


def near_name(given: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like a given one, whatever the case of letters; none if none is near.

    An option of several parts is near also by its last: ``--num_edits`` to ``--evaluation.num_edits``.
    """
    names = list(known)
    ends_so = f".{given[2:]}" if given.startswith("--") else None
    if ends_so is not None:
        ends = [name for name in names if name.endswith(ends_so)]
        if ends:
            return ends[0]
    by_case = {name.casefold(): name for name in reversed(names)}
    near = get_close_matches(given.casefold(), by_case, n=1)
    return by_case[near[0]] if near else None


def did_you_mean(given: str, known: Iterable[str], otherwise: str = "") -> str:
    """Return the end of a sentence about a misspelt name: ``: did you mean '…'?``, or what is said if none is near."""
    near = near_name(given, known)
    return f": did you mean '{near}'?" if near else otherwise
