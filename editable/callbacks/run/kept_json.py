"""What a run keeps of itself as JSON, to go on from: known to be as it was written, and of the types asked for."""

import hashlib
import json
from pathlib import Path
from typing import Any

from editable.atomic import write_atomically
from editable.callbacks.run.outcome_file import from_plain

__all__ = ["read_kept", "write_kept"]

DIGEST = "digest"


def write_kept(path: Path, **parts: Any) -> None:
    """Write parts into a file, whole or not at all.

    Args:
        path: An existing file is replaced.
        parts: What JSON holds, and NamedTuples of it, which become their fields by name; the digest of all is added.
    """
    plain = json.loads(json.dumps({name: _plain(part) for name, part in parts.items()}))
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps({**plain, DIGEST: _digest(plain)}, indent=1) + "\n", encoding="utf-8")


def read_kept(path: Path, **kinds: Any) -> list[Any]:
    """Read parts of what :func:`write_kept` has left.

    Args:
        path: The file.
        kinds: The type hint of each part, by its name.

    Returns:
        The parts, in the order of ``kinds``.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is no JSON, is not as it was written, or a part is missing or of another type.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.pop(DIGEST, None) != _digest(content):
            raise ValueError("it is not as it was written")
        return [from_plain(content[name], kind) for name, kind in kinds.items()]
    except (AttributeError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _plain(part: Any) -> Any:
    """Return a list of NamedTuples as one of mappings."""
    if isinstance(part, list):
        return [some._asdict() if hasattr(some, "_asdict") else some for some in part]
    return part


def _digest(content: dict[str, Any]) -> str:
    """Return what a file is known by: a wrong figure in it would be found nowhere else."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
