"""What is told of an evaluation of edits: a line for each edit, sentences, and figures."""

from pathlib import Path

from editable.callbacks.drawdown_evaluation.outcome import EvaluatedEdits
from editable.tables import Table
from editable.visualize import plot_drawdown, plot_edited_images, plot_success

__all__ = ["describe", "table", "write"]


def table(outcome: EvaluatedEdits) -> Table:
    """Return a table with a row for each edit, of exact values."""
    columns = {
        "index": outcome.index,
        "old_label": outcome.old_label,
        "new_label": outcome.new_label,
        "success": outcome.outcomes.success.int(),
        "num_steps": outcome.outcomes.num_steps,
        "drawdown": outcome.drawdown,
        **outcome.shares,
    }
    return Table(list(columns), list(zip(*(column.tolist() for column in columns.values()), strict=True)))


def write(outcome: EvaluatedEdits, folder: Path) -> list[str]:
    """Write the table and the figures; return the report's section in Markdown.

    The files are ``edits.csv``, ``edits.png``, ``drawdown.png`` and ``success.png``, with ``val_`` before their names
    where the validation set was looked at.
    """
    start = "" if outcome.stage == "test" else f"{outcome.stage}_"
    edits = outcome.outcomes
    table(outcome).write_csv(folder / f"{start}edits.csv")
    plot_edited_images(
        folder / f"{start}edits.png", outcome.images, outcome.old_label, outcome.new_label, outcome.classes
    )
    plot_drawdown(folder / f"{start}drawdown.png", {"edited": outcome.drawdown})
    plot_success(folder / f"{start}success.png", {"edited": (edits.success, edits.num_steps)})
    return [
        f"## Edits on the {outcome.stage} set\n\n"
        f"{' '.join(describe(outcome))} Every edit has its line in [{start}edits.csv]({start}edits.csv).\n\n"
        f"![The first edited images with old and asked label]({start}edits.png)\n\n"
        f"![Distribution of drawdown over edits]({start}drawdown.png)\n\n"
        f"![Success against number of steps]({start}success.png)\n"
    ]


def describe(outcome: EvaluatedEdits) -> list[str]:
    """Return sentences about what the edits were scored on, and what agreement and generality came out."""
    shares = {name: f"{100 * share.mean().item():.1f} %" for name, share in outcome.shares.items()}
    of_views = f" of an input and {outcome.num_edited_views} further views of it" if outcome.num_edited_views else ""
    sentences = [f"{len(outcome.index)} edits{of_views}, each scored on {_scored_on(outcome)}."]
    sentences.append(f"{shares['agreement']} of predictions on these stay as they were.")
    if outcome.num_sensitive:
        sentences.append(
            f"{outcome.num_sensitive} images are sensitive, which the unedited network just gets right: of these, "
            f"{shares['sensitive_agreement']} stay right."
        )
    else:
        sentences.append("No image is sensitive, so that there is no sensitive_agreement.")
    if outcome.num_views:
        sentences.append(
            f"Of {outcome.num_views} views of each edited input ({outcome.augmentation}), "
            f"{shares['generality_before']} have the label asked for before the edit, and {shares['generality']} "
            "after it."
        )
    return sentences


def _scored_on(outcome: EvaluatedEdits) -> str:
    if outcome.estimate is None:
        return f"{outcome.num_images} images"
    estimate = outcome.estimate
    return (
        f"a random part of {outcome.num_images} images, {estimate.forward_passes} looked at in all: drawdown "
        f"{100 * estimate.drawdown:.3f} ± {100 * estimate.half_width:.3f} points (95 % confidence); the figures of "
        "a single edit are estimates with much noise"
    )
