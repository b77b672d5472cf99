"""What is told of a rewrite of a generator: figures of the rule and of images, and its measures in words."""

from pathlib import Path

from editable.callbacks.rewrite_generator.outcome import GeneratorRewriteOutcome, UnseenPictures
from editable.tables import Table, markdown_code
from editable.visualize import plot_generated, plot_outlined

__all__ = ["WEIGHTS", "summary", "write"]

WEIGHTS = "rewritten.safetensors"


def summary(outcome: GeneratorRewriteOutcome) -> Table:
    """Return a table of what the rewrite did to unseen images; pixels in % of their range."""
    measured, change = outcome.measured, outcome.change
    percent = 100 / (outcome.image_range[1] - outcome.image_range[0])
    pixels_matched, pixels_elsewhere, pixels_unmatched = (
        _number(value, percent)
        for value in (
            measured.pixel_change_matched,
            measured.pixel_change_elsewhere,
            measured.pixel_change_unmatched_images,
        )
    )
    progress = "unknown" if measured.pixel_progress is None else f"{100 * measured.pixel_progress:.0f} %"
    rows = [
        ["rank, change of the weight's norm", str(change.rank), f"{100 * change.relative_norm:.1f} %"],
        ["exemplars' loss, before and after", f"{change.loss_before:.4g}", f"{change.loss:.4g}"],
        [
            "unseen images, positions that match the context",
            str(measured.num_images),
            f"{100 * measured.matched_positions:.2f} %",
        ],
        ["progress of features, of pixels there", f"{100 * measured.feature_progress:.0f} %", progress],
        [
            "change of features there, elsewhere",
            f"{measured.feature_change_matched:.4g}",
            _number(measured.feature_change_elsewhere),
        ],
        ["change of pixels there, elsewhere, %", pixels_matched, pixels_elsewhere],
        ["… in images where nothing matches, %", pixels_unmatched, ""],
    ]
    return Table(["", "", ""], rows, title=outcome.layer)


def write(outcome: GeneratorRewriteOutcome, folder: Path) -> list[str]:
    """Write the figures; return the report's sections in Markdown.

    ``rule.png`` shows the rule; ``strongest.png`` the unseen images where the context responds most, before and after;
    ``first.png`` the first unseen images, whatever they are.
    """
    plot_outlined(folder / "rule.png", outcome.rule.images, outcome.rule.masks, outcome.rule.titles)
    _plot_unseen(folder / "strongest.png", outcome.strongest)
    _plot_unseen(folder / "first.png", outcome.first)
    return [
        f"## Rewrite\n\n{_describe(outcome)}\n\n"
        f"The rewritten generator is in [{WEIGHTS}]({WEIGHTS}).\n\n"
        "![What is asked for: copied, pasted into, wanted, and the context](rule.png)\n",
        "## Unseen images\n\nThose where the context responds most (outlined where it matches):\n\n"
        "![Before, after, change, context](strongest.png)\n\nThe first ones, whatever they are:\n\n"
        "![Before, after, change, context](first.png)\n",
    ]


def _describe(outcome: GeneratorRewriteOutcome) -> str:
    """Tell in sentences what the rewrite did."""
    measured, change = outcome.measured, outcome.change
    low, high = outcome.image_range
    sentences = [
        f"{markdown_code(outcome.layer)} was changed by {100 * change.relative_norm:.1f} % of its norm, at rank "
        f"{change.rank}, in {change.num_steps} steps; "
        f"on the exemplars, features differ from the target by {change.loss:.4g} in place of "
        f"{change.loss_before:.4g} (mean absolute difference).",
        f"On {measured.num_images} unseen images the context matches at {100 * measured.matched_positions:.2f} % of "
        f"positions, in {100 * measured.matched_images:.1f} % of images. There, features made "
        f"{100 * measured.feature_progress:.0f} % of the wanted change; their mean absolute difference from the mean "
        f"target fell from {measured.feature_distance_before:.4g} to {measured.feature_distance:.4g}.",
        f"Mean absolute change of features: {measured.feature_change_matched:.4g} where it matches, "
        f"{_number(measured.feature_change_elsewhere)} elsewhere; of pixels, in % of their range: "
        f"{_number(measured.pixel_change_matched, 100 / (high - low))}, "
        f"{_number(measured.pixel_change_elsewhere, 100 / (high - low))} elsewhere, and "
        f"{_number(measured.pixel_change_unmatched_images, 100 / (high - low))} in images where nothing matches.",
        f"The layer's output changed elsewhere by at most {measured.output_change_elsewhere:.4g} at a position (mean "
        f"absolute over channels); it could not by more than {_number(measured.output_bound)}.",
    ]
    if measured.pixel_progress is not None:
        sentences.insert(2, f"Pixels made {100 * measured.pixel_progress:.0f} % of the wanted change.")
    return " ".join(sentences)


def _plot_unseen(path: Path, some: UnseenPictures) -> None:
    plot_generated(path, some.before, some.after, some.responses, some.matched, list(map(str, some.numbers)))


def _number(value: float | None, factor: float = 1.0) -> str:
    return "unknown" if value is None else f"{factor * value:.4g}"
