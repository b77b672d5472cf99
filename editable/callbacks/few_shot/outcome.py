"""What rules from a few photographs come to: one by one, and summed over classes left out, by way and number."""

from dataclasses import dataclass
from statistics import fmean, stdev
from typing import NamedTuple

from editable.callbacks.site.set_errors import SetErrors
from editable.editing import upper_bound

__all__ = ["FewShotOutcome", "FewShotRow", "FewShotTrial", "KeptRule"]


class FewShotTrial(NamedTuple):
    """One rule, made from some photographs of all classes but one, and tested on all photographs of that one.

    Attributes:
        way: How it was made.
        shots: Photographs of each class that made it; none where all did.
        draw: Number of the draw.
        left_out: Label of the class that it was tested on.
        strength: Scale of the change; 0 where none of those tried was within the allowed drop.
        tested: Errors on the photographs of the class left out.
        makers: Errors on the photographs that made it.
        others: Errors on the test images that chose nothing.
        broken: How many of these it has broken: right before, wrong now.
    """

    way: str
    shots: int | None
    draw: int
    left_out: int
    strength: float
    tested: SetErrors
    makers: SetErrors
    others: SetErrors
    broken: int


class KeptRule(NamedTuple):
    """The rule that is kept, made from all photographs of all classes.

    Attributes:
        way: How it was made.
        strength: Scale of the change.
        makers: Errors on the photographs, all of which made it.
        others: Errors on the test images that chose nothing.
        broken: How many of these it has broken: right before, wrong now.
    """

    way: str
    strength: float
    makers: SetErrors
    others: SetErrors
    broken: int

    def bound(self, level: float) -> float:
        """Return the upper bound of what it breaks of images like these, a fraction."""
        return upper_bound(self.broken, self.others.num_images, level).item()


class FewShotRow(NamedTuple):
    """What one way comes to with one number of photographs, over all draws and classes left out.

    Attributes:
        way: How rules were made.
        shots: Photographs of each class that made them; none where all did.
        num_rules: Number of rules.
        strength: Their mean strength.
        before: Wrong photographs of all classes left out.
        after: The same with the rules, mean over draws.
        corrected: Part of the errors that is corrected, net of new ones: mean over draws; none where there was none.
        spread: Standard deviation of that over draws; none for a single draw.
        makers_corrected: The same for the photographs that made the rules.
        drop: Drop in accuracy on other test images, mean over rules.
        most_broken: Of these images, the most that one rule has broken.
        bound: Upper bound of what that rule breaks of images like them.
    """

    way: str
    shots: int | None
    num_rules: int
    strength: float
    before: int
    after: float
    corrected: float | None
    spread: float | None
    makers_corrected: float | None
    drop: float
    most_broken: int
    bound: float


@dataclass(frozen=True)
class FewShotOutcome:
    """What a run comes to.

    Attributes:
        trials: All rules, by way, number of photographs, draw and class left out.
        classes: Class names by label.
        strengths: That were tried.
        max_drop: Largest drop that was allowed on the images that choose, a fraction.
        num_known: Number of images of what the new concept was taken for.
        level: Confidence of bounds.
        kept: The rule that is kept; none where none corrects anything at the allowed drop.
    """

    trials: list[FewShotTrial]
    classes: list[str]
    strengths: list[float]
    max_drop: float
    num_known: int
    level: float = 0.95
    kept: KeptRule | None = None

    @property
    def rows(self) -> list[FewShotRow]:
        """A row for each way and number of photographs, in the order in which they were tried."""
        groups: dict[tuple[str, int | None], list[FewShotTrial]] = {}
        for trial in self.trials:
            groups.setdefault((trial.way, trial.shots), []).append(trial)
        return [self._row(group) for group in groups.values()]

    @property
    def best(self) -> FewShotRow:
        """The row of most corrected errors among those within the drop; if there is none, that of the least drop."""
        within = [row for row in self.rows if row.drop <= self.max_drop]
        if not within:
            return min(self.rows, key=lambda row: row.drop)
        return max(within, key=lambda row: (row.corrected or 0.0, -row.drop))

    def values(self) -> dict[str, float]:
        """Return the figures of the best row by their metrics' names."""
        best, first = self.best, self.trials[0]
        values: dict[str, float | None] = {
            "num_rules": len(self.trials),
            "num_report_images": first.others.num_images,
            "errors_before": best.before,
            "errors": best.after,
            "errors_corrected": best.corrected,
            "drop": best.drop,
            "bound": best.bound,
        }
        if self.kept is not None:
            values |= {
                "kept_strength": self.kept.strength,
                "kept_drop": self.kept.others.drop,
                "kept_bound": self.kept.bound(self.level),
            }
        return {name: float(value) for name, value in values.items() if value is not None}

    def _row(self, trials: list[FewShotTrial]) -> FewShotRow:
        by_draw: dict[int, list[FewShotTrial]] = {}
        for trial in trials:
            by_draw.setdefault(trial.draw, []).append(trial)
        before = [sum(trial.tested.before for trial in draw) for draw in by_draw.values()]
        after = [sum(trial.tested.after for trial in draw) for draw in by_draw.values()]
        parts = [(old - new) / old for old, new in zip(before, after, strict=True) if old]
        wrong, still = (sum(getattr(trial.makers, name) for trial in trials) for name in ("before", "after"))
        worst = max(trials, key=lambda trial: trial.broken)
        return FewShotRow(
            trials[0].way,
            trials[0].shots,
            len(trials),
            fmean(trial.strength for trial in trials),
            before[0],
            fmean(after),
            fmean(parts) if parts else None,
            stdev(parts) if len(parts) > 1 else None,
            (wrong - still) / wrong if wrong else None,
            fmean(trial.others.drop for trial in trials),
            worst.broken,
            upper_bound(worst.broken, worst.others.num_images, self.level).item(),
        )
