"""How large a random part of the scoring images an evaluation looks at."""

from dataclasses import dataclass

from editable.errors import UserError, require_at_least, require_seed, require_within

__all__ = ["SamplingSettings"]


@dataclass(frozen=True)
class SamplingSettings:
    """How large a random part of the scoring images is looked at; exactly one of the first two is given.

    Attributes:
        half_width: Half-width of the 95 % confidence interval of the mean drawdown that is aimed at, as a fraction:
            0.001 is a tenth of a point.
        forward_passes: Largest number of images looked at, over all edits.
        seed: Seed of the draws.

    Raises:
        UserError: If not exactly one is given, or one is out of its range.
    """

    half_width: float | None = None
    forward_passes: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Check what is given, before anything is computed."""
        if (self.half_width is None) == (self.forward_passes is None):
            raise UserError(
                "sampling needs either half_width or forward_passes, got "
                f"half_width={self.half_width}, forward_passes={self.forward_passes}"
            )
        require_within("(0, 1)", half_width=self.half_width)
        require_at_least(1, forward_passes=self.forward_passes)
        require_seed(seed=self.seed)
