"""Files that are written whole or not at all."""

import errno
import glob
import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from editable.errors import UserError

try:
    import fcntl
except ImportError:  # no POSIX system: leftovers stay
    fcntl = None  # type: ignore[assignment]

__all__ = ["is_disk_full", "remove_leftovers", "write_atomically"]

FULL = (errno.ENOSPC, errno.EDQUOT)
"""No space on the device, or none within the user's quota."""
SMALL = 2**16
"""Bytes; a writer that failed on a device with fewer free has failed for want of space."""
SECONDS_OF_DOUBT = 60
"""A temporary file that is younger may be one that its writer has not locked yet."""


@contextmanager
def write_atomically(path: str | Path, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its place when the block ends without an exception.

    An interrupted writer leaves the old file, or none, but never half of one: the temporary file lies on the same file
    system, so that renaming it is one step, and is brought to the disk before, so that this holds when the power fails.
    A killed writer's temporary file goes when the same path is written again. Missing parent folders are made.

    Args:
        path: Where the finished file shall be; an existing file is replaced.
        durable: Wait until file and folder are on the disk, some milliseconds; false where there are thousands of
            files, which are worth nothing until a last one names them.

    Raises:
        UserError: If there is no space left; the old file stays as it is.
        OSError: If it cannot be written for another reason; it names the file, whatever the writer has raised.

    Example:
        >>> with write_atomically("runs/metrics.json") as temporary:
        ...     temporary.write_text("{}")
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if durable:
            remove_leftovers(path)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=_prefix(path), suffix=path.suffix)
    except OSError as error:
        if error.errno in FULL:
            raise _no_space(path) from error
        number = errno.ENOTDIR if isinstance(error, FileExistsError) else error.errno  # a file is where a folder goes
        raise OSError(number, os.strerror(number or 0), str(path)) from error
    temporary = Path(name)
    try:
        _lock(handle)
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        if durable:
            _bring_to_disk(temporary)
        temporary.replace(path)
        if durable:
            _bring_to_disk(path.parent)
    except Exception as error:
        number = _reason(error, temporary)
        if number in FULL or is_disk_full(error) or _free(path.parent) < SMALL:
            raise _no_space(path) from error
        if number is None:
            raise
        raise OSError(number, os.strerror(number), str(path)) from error
    finally:
        os.close(handle)
        temporary.unlink(missing_ok=True)


def _reason(error: BaseException | None, temporary: Path) -> int | None:
    """Return the number of the system's error behind one of writing; none where it is another one.

    Torch's writer hides it behind an error of its own, and that of safetensors has it in its text.
    """
    while error is not None:
        if isinstance(error, OSError) and error.filename in (None, str(temporary)):
            return error.errno
        found = re.search(r"\(os error (\d+)\)", str(error))
        if found:
            return int(found[1])
        error = error.__cause__ or error.__context__
    return None


def remove_leftovers(path: Path) -> None:
    """Remove what killed writers of ``path`` have left beside it; a file that a living one writes is locked."""
    if fcntl is None or not path.parent.is_dir():
        return
    for leftover in path.parent.glob(f"{glob.escape(_prefix(path))}*{glob.escape(path.suffix)}"):
        with suppress(OSError):  # gone meanwhile, locked, or of a file system without locks: then it stays
            if time.time() - leftover.stat().st_mtime < SECONDS_OF_DOUBT:
                continue
            handle = os.open(leftover, os.O_RDWR)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                leftover.unlink()
            finally:
                os.close(handle)


def is_disk_full(error: BaseException | None) -> bool:
    """Return whether an error, or one behind it, says that no space is left; some writers say it in words alone."""
    while error is not None:
        if getattr(error, "errno", None) in FULL or os.strerror(errno.ENOSPC) in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _no_space(path: Path) -> UserError:
    return UserError(f"no space is left for '{path}', which stays as it was: free some, or write to another disk")


def _free(folder: Path) -> int:
    """Return the free bytes of the device of a folder, where the system tells."""
    if not hasattr(os, "statvfs"):
        return SMALL
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def _prefix(path: Path) -> str:
    """Return what the names of temporary files of a path begin with."""
    return f".{path.stem[:100]}-"


def _lock(handle: int) -> None:
    if fcntl is not None:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _bring_to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk; file systems that cannot say so are believed."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno in FULL:
            raise
    finally:
        os.close(handle)


def _umask() -> int:
    """Return the process's umask, which a temporary file does not honour by itself."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
