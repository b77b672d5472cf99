"""What a search for a learning rate came to: the same held-out edits at each rate, and which rate is the best."""

from dataclasses import dataclass
from typing import Any, Literal

from editable.editing import RateOutcome, choose_learning_rate

__all__ = ["SearchOutcome"]


@dataclass(frozen=True)
class SearchOutcome:
    """All that is told of a search.

    Attributes:
        rates: What the edits came to at each learning rate, in ascending order, at least one.
        num_edits: Number of held-out edits, the same at each rate.
        seed: Of these edits.
        split: Whose images the edited inputs and the scoring images are.
        min_success: Least success rate, as a fraction, of a rate that may be chosen.
        num_scoring_images: Number of scoring images.
        scoring_error: Error rate of the unedited network on them.
        editor: A configuration with the editor at the chosen rate and its editable layers; none where no rate had
            enough successes.
    """

    rates: list[RateOutcome]
    num_edits: int
    seed: int
    split: Literal["test", "val"]
    min_success: float
    num_scoring_images: int
    scoring_error: float
    editor: dict[str, Any] | None = None

    @property
    def chosen(self) -> RateOutcome | None:
        """What came out at the best rate; none where no rate had enough successes."""
        return choose_learning_rate(self.rates, self.min_success)

    @property
    def sampled(self) -> bool:
        """Whether only a random part of the scoring images was looked at."""
        return any(rate.num_sampled_images is not None for rate in self.rates)

    @property
    def advice(self) -> str | None:
        """What to do where no rate had enough successes, or the chosen one lies at an end of the grid; else none."""
        lowest, highest = self.rates[0].learning_rate, self.rates[-1].learning_rate
        widen = {lowest: "search lower ones (search.lowest)", highest: "search higher ones (search.highest)"}
        if self.chosen is None:
            most = max(self.rates, key=lambda rate: rate.success_rate)
            remedy = widen.get(most.learning_rate, "let an edit take more steps (the editor's max_steps)")
            return (
                f"no learning rate from {lowest:g} to {highest:g} has a success rate of {self.min_success:.4g}; the "
                f"highest is {most.success_rate:.4g}, at {most.learning_rate:g}: {remedy}, or accept fewer successes "
                "(search.min_success)"
            )
        at = self.chosen.learning_rate
        if at not in widen or len(self.rates) == 1:
            return None
        end = "lowest" if at == lowest else "highest"
        return f"the chosen learning rate, {at:g}, is the {end} one searched: {widen[at]}, as the best may lie beyond"

    def values(self) -> dict[str, float]:
        """Return all figures by their metrics' names; those of the chosen rate are left out where there is none."""
        values: dict[str, float | None] = {
            "num_edits": self.num_edits,
            "num_rates": len(self.rates),
            "num_scoring_images": self.num_scoring_images,
            "scoring_error": self.scoring_error,
        }
        if self.chosen is not None:
            values |= {
                "learning_rate": self.chosen.learning_rate,
                "drawdown": self.chosen.drawdown,
                "drawdown_half_width": self.chosen.half_width,
                "success_rate": self.chosen.success_rate,
                "num_steps": self.chosen.num_steps,
            }
        return {name: float(value) for name, value in values.items() if value is not None}
