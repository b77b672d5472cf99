"""Files that are written whole or not at all."""

import errno
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["write_atomically"]


@contextmanager
def write_atomically(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its place when the block ends without an exception.

    An interrupted writer leaves the old file, or none, but never half of one. Missing parent folders are made.

    Args:
        path: Where the finished file shall be; an existing file is replaced.

    Raises:
        OSError: If it cannot be written, such as on a full disk; it names the file, whatever the writer has raised.

    Example:
        >>> with write_atomically("runs/metrics.json") as temporary:
        ...     temporary.write_text("{}")
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem[:100]}-", suffix=path.suffix)
    except OSError as error:
        number = errno.ENOTDIR if isinstance(error, FileExistsError) else error.errno  # a file is where a folder goes
        raise OSError(number, os.strerror(number or 0), str(path)) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except Exception as error:
        number = _reason(error, temporary)
        if number is None:
            raise
        raise OSError(number, os.strerror(number), str(path)) from error
    finally:
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


def _umask() -> int:
    """Return the process's umask, which a temporary file does not honour by itself."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
