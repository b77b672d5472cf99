"""What is a user's mistake or the machine's state is a sentence; a fault of the program stays a traceback."""

import errno
import os

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from editable.errors import UserError
from editable.mistakes import users_mistake


def of_lightning() -> None:
    Trainer(accelerator="quantum", logger=False)


def of_our_own() -> None:
    int("x")


def of_our_own_import() -> None:
    import editable.no_such_room  # noqa: F401


def of_a_package() -> None:
    import no_such_package.inside  # noqa: F401


def wrapped() -> None:
    try:
        raise UserError("the cause")
    except UserError as error:
        raise ValueError("somebody's wrapping") from error


def while_handling() -> None:
    """A fault met while a machine's error is dealt with is a fault."""
    try:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError:
        of_our_own()


def raised(error: BaseException):
    def raise_it() -> None:
        raise error

    return raise_it


@pytest.mark.parametrize(
    ("cause", "says"),
    [
        (raised(UserError("one\n  two")), "one two"),
        (raised(MisconfigurationException("m")), "m"),
        (wrapped, "the cause"),
        (raised(OSError(errno.ENOSPC, "x")), "cannot write: no space left on device"),
        (raised(OSError(errno.ENOSPC, "x", "a.pt")), "cannot write 'a.pt': no space left on device"),
        (raised(OSError(errno.EDQUOT, "x", "a.pt")), "cannot write 'a.pt': disk quota exceeded"),
        (raised(OSError(errno.EROFS, "x", b"a.pt")), "cannot use 'a.pt': read-only file system"),
        (raised(PermissionError(errno.EACCES, "x", "a.pt")), "cannot use 'a.pt': permission denied"),
        (raised(OSError(errno.EACCES, "x", "a", None, "b")), "cannot use 'b': permission denied"),
        (raised(IsADirectoryError(errno.EISDIR, "x", "a")), "cannot use 'a': is a directory"),
        (of_a_package, "No module named 'no_such_package', which an option asks for: install the package"),
        (of_lightning, "accelerator='quantum'"),
        (raised(OSError(errno.EACCES, "no place is named")), None),
        (raised(FileNotFoundError(errno.ENOENT, "x", "a")), None),
        (raised(OSError("no number")), None),
        (raised(ValueError("v")), None),
        (raised(AssertionError("a")), None),
        (of_our_own, None),
        (of_our_own_import, None),
        (while_handling, None),
    ],
)
def test_sentences(cause, says: str | None):
    with pytest.raises(BaseException) as error:  # noqa: PT011  each row has its own
        cause()
    found = users_mistake(error.value)
    if says is None:
        assert found is None
    else:
        assert found is not None
        assert says in found
        assert "\n" not in found
