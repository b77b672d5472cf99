"""What is told of an export: the file, and how it was checked."""

from pathlib import Path

from editable.callbacks.export.outcome import ExportOutcome
from editable.tables import Table

__all__ = ["summary", "write"]


def summary(outcome: ExportOutcome) -> Table:
    """Return a table of the file and of its check."""
    rows = [
        ("file", outcome.file),
        ("size", f"{outcome.num_bytes / 2**20:.2f} MiB, {outcome.num_parameters} parameters"),
        ("other classes than the network's", f"{outcome.num_differing} of {outcome.num_images} test images"),
        ("largest difference of a logit", f"{outcome.difference:.1e}; up to {outcome.tolerance:g} is rounding"),
        ("error of the file", f"{100 * outcome.num_wrong / outcome.num_images:.2f} %"),
    ]
    return Table(("", ""), rows, f"Exported as {outcome.format}")


def write(outcome: ExportOutcome, folder: Path) -> list[str]:
    """Return the report's section in Markdown; nothing else is written."""
    kept = outcome.refusal or "It computes what the network does."
    return [f"## Exported as {outcome.format}\n\n{kept}\n\n{summary(outcome).markdown()}\n"]
