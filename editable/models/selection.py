"""Choose a network's parameters by name patterns."""

from collections.abc import Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

from torch import nn

from editable.errors import UserError

__all__ = ["is_quantised", "select_parameters"]


def select_parameters(network: nn.Module, patterns: str | Sequence[str]) -> dict[str, nn.Parameter]:
    """Select the parameters whose names match at least one pattern.

    A pattern is ``all``, the name of a parameter, or the name of a module, which stands for all parameters below it;
    shell wildcards (``*``, ``?``, ``[…]``) are allowed in names. A name that is none in full stands for the only module
    whose name ends with it, wherever that lies: ``extra_layer`` for ``fc.extra_layer``. A parameter that the network
    holds under several names is selected by any of them, and appears once, under its first name.

    Args:
        network: The network to look into.
        patterns: One pattern or several, such as ``layer3``, ``layer4.1.*``, ``layer?.0`` or ``all``.

    Returns:
        The network's own parameters by name, in the order of ``network.named_parameters()``.

    Raises:
        UserError: If no pattern is given, or a pattern matches nothing.

    Example:
        >>> list(select_parameters(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)), "2"))
        ['2.weight', '2.bias']
    """
    patterns = [patterns] if isinstance(patterns, str) else list(patterns)
    if not patterns:
        raise UserError("no layer to edit was given: name at least one, such as 'layer3', or 'all'")
    selected: set[nn.Parameter] = set()
    for pattern in patterns:
        matched = _find(network, pattern) or _find(network, _full_name(network, pattern))
        if not matched:
            raise UserError(_nothing_matches(network, pattern))
        selected |= matched
    return {name: parameter for name, parameter in network.named_parameters() if parameter in selected}


def _find(network: nn.Module, pattern: str) -> set[nn.Parameter]:
    parameters = network.named_parameters(remove_duplicate=False)
    return {parameter for name, parameter in parameters if _matches(name, pattern)}


def _full_name(network: nn.Module, pattern: str) -> str:
    """Return the name of the only module whose name ends with the pattern, or else the pattern."""
    names = [name for name, _ in network.named_modules() if name.endswith(f".{pattern}")]
    return names[0] if len(names) == 1 else pattern


def _matches(name: str, pattern: str) -> bool:
    return pattern == "all" or fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")


def _nothing_matches(network: nn.Module, pattern: str) -> str:
    module = dict(network.named_modules()).get(pattern)
    if module is not None:
        kind = "is quantised" if is_quantised(module) else f"is a {type(module).__name__}"
        return f"{pattern!r} of {type(network).__name__} {kind} and has no parameters that could be changed"
    names = [name for name, module in network.named_modules() if name and next(module.parameters(), None) is not None]
    names += [name for name, _ in network.named_parameters()]
    near = get_close_matches(pattern, names, n=5)
    if near:
        hint = f"near names are {', '.join(near)}"
    else:
        top_level = dict.fromkeys(name.partition(".")[0] for name in names)
        hint = f"choose 'all' or names under {', '.join(top_level)}" if top_level else "it has no parameters"
    return f"no parameter of {type(network).__name__} matches {pattern!r}: {hint}"


def is_quantised(module: nn.Module) -> bool:
    """Tell whether a module is one of torch's quantised ones, which hold no parameters and pass no gradients."""
    return any("quantized" in kind.__module__.split(".") for kind in type(module).__mro__)
