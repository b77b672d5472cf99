"""Text that users write, in files: read whole or refused in one sentence, and JSON without guesses."""

import json
import os
import stat
from collections.abc import Collection, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

from editable.errors import UserError

__all__ = ["parse_json", "read_json", "read_text", "require_file", "require_keys"]

KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
OPEN_ALREADY = ("/dev/fd/", "/proc/self/fd/", "/dev/stdin")
"""Where a shell's ``<(…)`` stands: somebody writes there."""


def require_file(path: str | Path, or_folder: bool = False) -> None:
    """Refuse what is there but is no file, before anybody waits for a pipe to be written.

    Args:
        path: What may be there.
        or_folder: A folder will do.

    Raises:
        UserError: If it is a folder, a named pipe, a socket or a device.
    """
    if str(path).startswith(OPEN_ALREADY):
        return
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):  # whoever opens it says what is wrong
        return
    for is_kind, kind in KINDS:
        if is_kind(mode) and not (or_folder and is_kind is stat.S_ISDIR):
            raise UserError(f"'{path}' is {kind}, but must be a file{' or a folder' if or_folder else ''}")


def read_text(path: str | Path) -> str:
    """Read a text file in UTF-8, with or without a byte order mark.

    Raises:
        FileNotFoundError: If there is none; whoever asks for it says what it would be.
        UserError: If it is no file, cannot be opened, or is not in UTF-8.
    """
    require_file(path)
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise
    except UnicodeDecodeError as error:
        raise UserError(f"'{path}' is no text in UTF-8: its byte {error.start} cannot be read") from error
    except (OSError, ValueError) as error:
        raise UserError(f"'{path}' cannot be read ({getattr(error, 'strerror', None) or error})") from error


def parse_json(text: str, source: str | Path) -> Any:
    """Read JSON, in which a name stands once in its object, and numbers are finite.

    Args:
        text: The JSON.
        source: Where it is from, for messages.

    Raises:
        UserError: If it is no JSON, a key stands twice, or a number is not finite or has too many digits.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(pairs)
        if len(content) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise UserError(f"'{source}' has the key '{twice}' twice in one place: each may stand there once")
        return content

    def refuse(number: str) -> NoReturn:
        raise UserError(f"'{source}' has the number {number}, but numbers must be finite")

    def finite(digits: str) -> float:
        number = float(digits)
        return number if abs(number) < float("inf") else refuse(digits)

    try:
        return json.loads(text, object_pairs_hook=once, parse_constant=refuse, parse_float=finite)
    except UserError:
        raise
    except RecursionError:
        raise UserError(f"'{source}' cannot be read as JSON (it is nested too deeply)") from None
    except ValueError as error:
        raise UserError(f"'{source}' cannot be read as JSON ({error})") from error


def read_json(path: str | Path) -> Any:
    """Read a JSON file; errors as of :func:`read_text` and :func:`parse_json`."""
    return parse_json(read_text(path), path)


def require_keys(keys: Iterable[str], known: Collection[str], where: str) -> None:
    """Refuse the first key that nobody reads.

    Args:
        keys: Those that are there.
        known: Those that mean something.
        where: What has them, for the message.

    Raises:
        UserError: If one is unknown; it names the near one.
    """
    for key in keys:
        if key not in known:
            near = get_close_matches(key, known, n=1)
            meant = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(sorted(known))}"
            raise UserError(f"{where} has the unknown key '{key}': {meant}")
