"""The log of corrections of a base network: one line of JSON for each, behind those that are there."""

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from editable.atomic import is_disk_full
from editable.editing.patches.patch import EditPatch
from editable.errors import UserError
from editable.text_files import require_file

try:
    import fcntl
except ImportError:  # no POSIX system: appending is one call there too, but nobody waits for another
    fcntl = None  # type: ignore[assignment]

__all__ = ["append_corrections", "entries_of", "log_path", "read_log"]


def log_path(folder: str | Path, base: str) -> Path:
    """Return the log of a base network in a folder of logs.

    Args:
        folder: Of logs.
        base: Fingerprint of the weights without any patch.
    """
    return Path(folder).expanduser() / f"{base}.jsonl"


def entries_of(patch: EditPatch, path: str | Path, command: str, base: str | None = None) -> list[dict[str, Any]]:
    """Return what the log says of a patch, a line for each of its edits.

    Args:
        patch: The patch.
        path: Where it is kept.
        command: What has made it: ``edit``.
        base: Fingerprint of the weights without any patch; by default those that this one was made for.
    """
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return [
        {
            "time": now,
            "command": command,
            "asked": edit.asked,
            "by": edit.editor,
            "harm": None if edit.harm is None else edit.harm._asdict(),
            "patch": str(path),
            "edit": number,
            "images": edit.images,
            "labels": edit.labels,
            "settings": edit.made_by,
            "network": base or patch.base,
            "before": patch.base,
            "after": patch.edited,
        }
        for number, edit in enumerate(patch.edits, 1)
    ]


def append_corrections(path: str | Path, entries: Sequence[Mapping[str, Any]]) -> None:
    """Append lines to a log, and wait until they are on the disk.

    Processes that append at the same time wait for each other. Where the power fails, or the process is killed, the
    lines before stay, and at most the last line of these is torn; :func:`read_log` passes it over, and whoever appends
    next begins a new line.

    Args:
        path: The log; it and its folder are made where there is none.
        entries: As JSON holds them.

    Raises:
        UserError: If there is no space left; the log stays as it was.
        OSError: If it cannot be written for another reason.
    """
    path = Path(path)
    require_file(path)
    text = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        if fcntl is not None:
            fcntl.flock(handle, fcntl.LOCK_EX)  # goes with the handle, and with the process
        size = os.fstat(handle).st_size
        if size:
            os.lseek(handle, size - 1, os.SEEK_SET)
            text = (b"" if os.read(handle, 1) == b"\n" else b"\n") + text
        try:
            _write_all(handle, text)
            os.fsync(handle)
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(handle, size)
            if is_disk_full(error):
                raise UserError(f"no space is left for '{path}', which stays as it was: free some") from error
            raise
    finally:
        os.close(handle)
    if is_new:
        _bring_to_disk(path.parent)


def read_log(path: str | Path) -> list[dict[str, Any]]:
    """Read a log; lines that a power cut has torn are passed over, with a warning that counts them.

    Raises:
        UserError: If there is none, or it is no log: not one of its lines can be read.
    """
    require_file(path)
    if not Path(path).is_file():
        raise UserError(f"there is no log of corrections at '{path}'")
    entries, torn = [], 0
    for line in Path(path).read_bytes().split(b"\n"):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            if not isinstance(entry, dict):
                raise ValueError("it is no object")
            entries.append(entry)
        except (ValueError, RecursionError):
            torn += 1
    if torn and not entries and torn > 1:
        raise UserError(f"'{path}' is no log of corrections: not one of its lines is JSON")
    if torn:
        warnings.warn(f"'{path}' has {torn} torn lines, which are passed over", UserWarning, stacklevel=2)
    return entries


def _write_all(handle: int, text: bytes) -> None:
    left = memoryview(text)
    while left:
        left = left[os.write(handle, left) :]


def _bring_to_disk(folder: Path) -> None:
    """Wait until the names in a folder are on the disk; file systems that cannot say so are believed."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
