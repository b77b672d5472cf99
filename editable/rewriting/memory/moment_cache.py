"""A second moment that is kept on disk, and used again only for what it was made from."""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

from safetensors import SafetensorError

from editable.errors import UserError
from editable.rewriting.memory.second_moment import SecondMoment

__all__ = ["cached_second_moment"]


def cached_second_moment(
    folder: str | Path,
    identity: Mapping[str, str | int],
    collect: Callable[[], SecondMoment],
    name: str = "second_moment",
) -> SecondMoment:
    """Return the second moment in a folder if it is of the right network, layer and data; else collect and keep it.

    A file of something else, or a broken one, is never used: a warning says what differs, and the new second moment
    takes its place. Where a folder cannot be written to, a warning says so, and the second moment is returned all the
    same.

    Args:
        folder: Where the file ``<name>.safetensors`` lies or shall lie.
        identity: All that the second moment depends on: fingerprints of the weights that lead to the layer, of what is
            computed with them and of the data, the layer, the architecture of its memory, the preprocessing, the number
            of images, the number of positions and their seed. Two are the same if all their entries are, as text.
        collect: Computes the second moment; called only where needed.
        name: Tells apart second moments that shall lie side by side, such as those of several layers.

    Returns:
        The second moment: what ``collect`` returns, or on the CPU what was kept.

    Raises:
        UserError: If the name is no plain file name.

    Example:
        >>> identity = {"upstream": fingerprint(upstream), "layer": "layer2.0.conv1", "data": fingerprint(images)}
        >>> moment = cached_second_moment("cache", identity, lambda: collect_second_moment(block, memory, loader))
    """
    if not name or Path(name).name != name:
        raise UserError(f"the name of a second moment must be a plain file name, got {name!r}")
    path = Path(folder) / f"{name}.safetensors"
    wanted = {str(key): str(value) for key, value in identity.items()}
    if path.is_file():
        try:
            moment, found = SecondMoment.load(path)
            if found == wanted:
                return moment
            reason = f"the second moment in '{path}' was made with {_differences(wanted, found)}"
        except UserError as error:
            reason = str(error)
        warnings.warn(f"{reason}: it is not used, but computed anew", UserWarning, stacklevel=2)
    moment = collect()
    try:
        moment.save(path, wanted)
    except (OSError, SafetensorError) as error:
        warnings.warn(f"the second moment cannot be kept as '{path}' ({error})", UserWarning, stacklevel=2)
    return moment


def _differences(wanted: Mapping[str, str], found: Mapping[str, str]) -> str:
    names = [name for name in {**wanted, **found} if wanted.get(name) != found.get(name)]
    return ", ".join(f"{name} {_word(found, name)} in place of {_word(wanted, name)}" for name in names)


def _word(identity: Mapping[str, str], name: str) -> str:
    return repr(identity[name]) if name in identity else "unknown"
