"""Which errors are a user's mistake, or the machine's state, and the sentence that says so; all others are faults."""

import errno
import linecache
import os
import re
import sys
from argparse import ArgumentError
from importlib.util import find_spec
from pathlib import Path
from traceback import walk_tb
from types import TracebackType

from editable.errors import UserError

__all__ = ["one_sentence", "users_mistake"]

PLACES = {
    getattr(errno, name)
    for name in ("EACCES", "EPERM", "EROFS", "ENAMETOOLONG", "ENOTDIR", "EISDIR", "EEXIST", "ELOOP", "EIO", "EFBIG")
}
"""What may be wrong with a place that is named in the error."""
FULL = {getattr(errno, name) for name in ("ENOSPC", "EDQUOT") if hasattr(errno, name)}
"""What is wrong with the machine, whether or not a place is named."""
LIGHTNING = re.compile(
    r"lightning[/\\](pytorch[/\\](accelerators|callbacks|loggers|loops|plugins|profilers|strategies|trainer|tuner)|"
    r"fabric)[/\\]"
)
"""Where Lightning looks at what the user has asked of it; not where it is called by our own code."""
TORCH = re.compile(r"[/\\]torch[/\\]")
PARTS = re.compile(r"lightning[/\\](pytorch|fabric)[/\\](callbacks|loggers|profilers|strategies)[/\\]")
"""Parts of the trainer that hand to torch what they were given in a configuration."""
OTHERS = re.compile(r"(lightning|torch)\.")
INSIDE = re.compile(r"""(Parser key "[^"]*)": Problem with given class_path '[^']*': Parser key \"""")
"""Where an option of a class inside a class has its place."""
OPTION = re.compile(r'Parser key "([^"]*)":')
UNION = ("Not a valid subclass", "Import path", "Expected a <class")
"""What jsonargparse says of the kinds of value that were not meant."""
CHECKS = (ValueError, TypeError, RuntimeError, ImportError, OSError, NotImplementedError)


def users_mistake(error: BaseException) -> str | None:
    """Return the sentence that a user's mistake ends in; none for a fault, which shall show its traceback.

    A mistake is what is raised as one: a :class:`~editable.errors.UserError`, Lightning's misconfiguration, an argument
    that the parser refuses, also behind an error that wraps it. Besides, where no such error is: a place that cannot be
    written to or read, a full disk; a package that is not installed; and what Lightning refuses by a ``raise`` of its
    own where it looks at devices, strategies, loggers, plug-ins and the trainer's numbers, or torch where one of
    Lightning's callbacks, loggers, profilers or strategies hands on what it was given; and a class of Lightning's or
    torch's that cannot be made of the arguments in the configuration.

    Args:
        error: What has ended the command.
    """
    some: BaseException | None = error
    wrapped = True  # so far only the parser's own errors, which wrap what a constructor raises
    while some is not None:
        if isinstance(some, UserError | ArgumentError) or _is_misconfiguration(some):
            return one_sentence(str(some))
        if wrapped:
            said = _of_the_machine(some) or _of_a_missing_package(some) or _of_lightning(some) or _of_a_class(some)
            if said is not None:
                return one_sentence(said)
        wrapped = wrapped and "jsonargparse" in _raised_at(some)[0]
        some = some.__cause__ or some.__context__
    return None


def one_sentence(message: str) -> str:
    """Leave out of jsonargparse's messages what only speaks of its own inner workings, and join the rest."""
    noise = ("Does not validate against any", "Subtypes:", "Errors:", "Given value", "Expected a <class 'NoneType'>")
    lines = [line.strip().removeprefix("- ") for line in message.splitlines()]
    sentence = " ".join(line for line in lines if line and not line.startswith(noise))
    while INSIDE.search(sentence):
        sentence = INSIDE.sub(r"\1.", sentence)
    return OPTION.sub(r"\1:", sentence)


def _is_misconfiguration(error: BaseException) -> bool:
    """Tell whether Lightning says that it was asked for what cannot be; who has not imported it has none of these."""
    lightning = sys.modules.get("lightning.fabric.utilities.exceptions")
    return lightning is not None and isinstance(error, lightning.MisconfigurationException)


def _of_the_machine(error: BaseException) -> str | None:
    if not isinstance(error, OSError) or error.errno is None:
        return None
    reason = os.strerror(error.errno).lower()
    if error.errno in FULL:
        return f"cannot write{_named(error)}: {reason}"
    return f"cannot use{_named(error)}: {reason}" if error.errno in PLACES and error.filename is not None else None


def _named(error: OSError) -> str:
    name = error.filename2 if error.filename2 is not None else error.filename
    return "" if name is None else f" '{os.fsdecode(name) if isinstance(name, str | bytes) else name}'"


def _of_a_missing_package(error: BaseException) -> str | None:
    """Return what is said of a package that somebody else's code asks for and that is not there."""
    if not isinstance(error, ImportError):
        return None
    name = (error.name or "").partition(".")[0]
    if isinstance(error, ModuleNotFoundError) and name and name != "editable" and find_spec(name) is None:
        return f"{error}, which an option asks for: install the package, or leave the option out"
    return str(error) if "fsspec" in _raised_at(error)[0] else None


def _of_lightning(error: BaseException) -> str | None:
    """Return what is said where Lightning refuses what it was asked for, or torch what it hands on, by a ``raise``."""
    trace = [(frame.f_code, line) for frame, line in walk_tb(error.__traceback__)]
    if not trace or not isinstance(error, CHECKS):
        return None
    code, line = trace[-1]
    if not linecache.getline(code.co_filename, line).lstrip().startswith("raise "):
        return None
    refused = LIGHTNING.search(code.co_filename) is not None
    if TORCH.search(code.co_filename) and isinstance(error, ValueError | TypeError):
        asking = next((some for some, _ in reversed(trace) if not TORCH.search(some.co_filename)), code)
        refused = PARTS.search(asking.co_filename) is not None
    # What is abstract says nothing but its name.
    return (str(error) or f"{code.co_name} is left to be defined: name a class that does") if refused else None


def _of_a_class(error: BaseException) -> str | None:
    """Return what is said of a class of Lightning's or torch's that cannot be made of its arguments."""
    files = [frame.f_code.co_filename for frame, _ in walk_tb(error.__traceback__)]
    if not isinstance(error, ValueError) or not files or "jsonargparse" not in files[-1]:
        return None
    if not any("jsonargparse" in file and Path(file).stem == "_instantiation" for file in files):
        return None
    paths = set(re.findall(r"class_path='([^']*)'", str(error)))
    if len(paths) != 1 or not OTHERS.match(path := paths.pop()):
        return None
    listed = str(error).partition("\nErrors:\n")[2].partition("\nGiven value type:")[0]
    entries = [" ".join(entry.split()) for entry in re.split(r"^  - ", listed, flags=re.MULTILINE)]
    reasons = [entry.removeprefix(f"Problem with given class_path '{path}': ") for entry in entries if entry]
    reasons = [reason for reason in reasons if not reason.startswith(UNION)]
    return f"{path} cannot be made of its arguments: {'; '.join(reasons)}" if reasons else None


def _raised_at(error: BaseException) -> tuple[str, int]:
    """Return file and line of the innermost frame; empty where there is none."""
    trace: TracebackType | None = error.__traceback__
    if trace is None:
        return "", 0
    while trace.tb_next is not None:
        trace = trace.tb_next
    return trace.tb_frame.f_code.co_filename, trace.tb_lineno
