"""What an editor comes to on many edits, with intervals."""

from dataclasses import dataclass

__all__ = ["Evaluation"]


@dataclass(frozen=True, repr=False)
class Evaluation:
    """Figures of the protocol of Sinitsin et al. (ICLR 2020), rates and errors as fractions; see ``docs/metrics.md``.

    Attributes:
        num_edits: Number of edits, each from the unedited network.
        num_images: Number of scoring images.
        success_rate: Share of the edits that succeed, and its 95 % interval (Clopper–Pearson).
        num_steps: Mean number of updates, and its 95 % interval (normal).
        error: Error rate of the unedited network.
        drawdown: Mean rise of the error rate, and its 95 % interval (normal, over edits).
        generality: Share of further views of edited images that have the label, before and after; none without views.
        editor: Editor and layers in words.
    """

    num_edits: int
    num_images: int
    success_rate: tuple[float, float, float]
    num_steps: tuple[float, float, float]
    error: float
    drawdown: tuple[float, float, float]
    generality: tuple[float, float] | None
    editor: str

    def __repr__(self) -> str:
        lines = [
            f"{self.num_edits} edits by {self.editor}, each scored on {self.num_images} images",
            f"success    {_percent(self.success_rate)}",
            f"steps      {self.num_steps[0]:.2f} ({self.num_steps[1]:.2f} to {self.num_steps[2]:.2f})",
            f"error      {100 * self.error:.2f} % before",
            f"drawdown   {self.drawdown[0] * 100:+.2f} points ({100 * self.drawdown[1]:+.2f} to "
            f"{100 * self.drawdown[2]:+.2f})",
        ]
        if self.generality is not None:
            lines.append(f"generality {100 * self.generality[0]:.1f} → {100 * self.generality[1]:.1f} % of other views")
        return "\n".join(lines)


def _percent(figure: tuple[float, float, float]) -> str:
    return f"{100 * figure[0]:.1f} % ({100 * figure[1]:.1f} to {100 * figure[2]:.1f})"
