"""What solvers and editors are called in tables, by which a study tells those that it tries apart."""

import inspect
from typing import Any

from torch import Tensor, nn

__all__ = ["title_of"]


def title_of(made: object) -> str:
    """Return the class of a solver, an editor or an update rule, with the arguments that differ from the default.

    Args:
        made: It keeps each argument of its constructor as an attribute of the same name; others are left out.
    """
    parameters = inspect.signature(type(made)).parameters.values()
    given = {parameter.name: _plain(getattr(made, parameter.name, parameter.default)) for parameter in parameters}
    changed = [f"{some.name}={given[some.name]}" for some in parameters if given[some.name] != some.default]
    return f"{type(made).__name__}({', '.join(changed)})" if changed else type(made).__name__


def _plain(value: Any) -> Any:
    """Return an argument as it is written down."""
    if isinstance(value, nn.Module):
        return title_of(value)
    return value.tolist() if isinstance(value, Tensor) else value
