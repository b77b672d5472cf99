"""The one error that a user's mistake raises: the command line prints it as a sentence, without a traceback."""

__all__ = ["UserError", "require_at_least"]


class UserError(ValueError):
    """A mistake in the user's input: a missing path, an unknown layer, a label out of range.

    The message is one sentence that names the offending value and says what would be right. ``train.py`` prints it
    and exits with status 2; code that uses the package as a library catches it as a :class:`ValueError`.
    """


def require_at_least(least: int, **values: int) -> None:
    """Raise a :class:`UserError` that names the first value below the least one allowed."""
    for name, value in values.items():
        if value < least:
            raise UserError(f"{name} must be at least {least}, got {value}")
