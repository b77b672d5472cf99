"""What draws a new concept into an image: any function or callable class, called in one way and told in records."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from editable.errors import UserError

__all__ = ["Stylizer", "stylized", "stylizer_name", "stylizer_settings"]

Stylizer = Callable[..., Tensor]
"""From image ``[C, H, W]`` in [0, 1], texture ``[C, h, w]`` or none, mask ``[H, W]`` and seed to an image."""


def stylized(stylizer: Stylizer, image: Tensor, texture: Tensor | None, mask: Tensor, seed: int) -> Tensor:
    """Return what a stylizer makes of an image, in [0, 1].

    Args:
        stylizer: The function or callable.
        image: In [0, 1], ``[C, H, W]``.
        texture: An image of the new concept, ``[C, h, w]``, or none.
        mask: Where it shall be, in [0, 1], ``[H, W]``.
        seed: Of what is random.

    Raises:
        UserError: it returns no finite image of that shape.
    """
    styled = stylizer(image=image, texture=texture, mask=mask, seed=seed)
    if not isinstance(styled, Tensor) or styled.shape != image.shape or not styled.isfinite().all():
        got = list(styled.shape) if isinstance(styled, Tensor) else type(styled).__name__
        raise UserError(
            f"the stylizer {stylizer_name(stylizer)} must return a finite image {list(image.shape)}, got {got}"
        )
    return styled.clamp(0, 1)


def stylizer_name(stylizer: Stylizer) -> str:
    """Return the path of a stylizer's function or class."""
    named = stylizer if hasattr(stylizer, "__qualname__") else type(stylizer)
    return f"{named.__module__}.{named.__qualname__}"


def stylizer_settings(stylizer: Stylizer) -> dict[str, Any]:
    """Return a stylizer for records: its name, and what tells two of one class apart, as far as it is plain."""
    attributes = getattr(stylizer, "__dict__", {})
    plain = {name: value for name, value in attributes.items() if isinstance(value, str | int | float | bool | tuple)}
    return {"name": stylizer_name(stylizer), **plain}
