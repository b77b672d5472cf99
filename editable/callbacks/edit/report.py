"""What is told of an edit of images: each image and the test error before and after, in a table and figures."""

from pathlib import Path

from torch import Tensor

from editable.callbacks.edit.outcome import EditedImages, ImageEditOutcome, ScoredImages
from editable.tables import Table, markdown_code, markdown_text
from editable.visualize import plot_changed_images, plot_image_edit

__all__ = ["CHECKPOINT", "PATCH", "summary", "write"]

CHECKPOINT = "edited.ckpt"
PATCH = "edit.safetensors"


def summary(outcome: ImageEditOutcome) -> Table:
    """Return a table of each image, other views of them and the test images, before and after."""
    edited, values, classes = outcome.edited, outcome.values(), outcome.edited.classes
    rows = []
    for name, label, *both in zip(edited.names, edited.labels.tolist(), edited.before, edited.after, strict=True):
        rows.append([f"{name}, asked for {classes[label]}", *(_told(some, classes) for some in both)])
    if "generality" in values:
        title = f"{edited.views_after.shape[1]} other views of each have the label asked for"
        rows.append([title, *(f"{100 * values[name]:.1f} %" for name in ("generality_before", "generality"))])
    if len(edited.made):
        held = int(edited.holds.sum())
        rows.append(["have their labels, after all edits", "", f"{held} of {len(edited.names)}"])
    rows += [_errors(name, scored) for name, scored in _scored(outcome).items()]
    return Table(["", "before", "after"], rows, _title(outcome))


def write(outcome: ImageEditOutcome, folder: Path) -> list[str]:
    """Write the figures; return the report's section in Markdown."""
    edited, scored = outcome.edited, outcome.scored.others
    kept = outcome.refusal or (
        f"Kept as [{PATCH}]({PATCH}), to be added to the options of a test: "
        f"{markdown_code(f'--patches {folder / PATCH}')}, and as "
        f"[{CHECKPOINT}]({CHECKPOINT}), with all other weights."
    )
    plot_image_edit(
        folder / "edit.png", edited.images, edited.names, edited.labels, edited.before, edited.after, edited.classes
    )
    text = (
        f"## {_title(outcome)}\n\n{kept}\n\n{_holding(edited)}{summary(outcome).markdown()}\n\n"
        "![Each image with the probabilities of classes before and after](edit.png)\n\n"
        + " ".join(
            f"Of {len(some.labels)} {name} {some.num_corrected} became right and {some.num_broken} wrong: a drawdown "
            f"of {100 * some.drawdown:.2f} points."
            for name, some in _scored(outcome).items()
        )
        + "\n"
    )
    if len(scored.changed):
        which = scored.before != scored.after
        labels, before, after = scored.labels[which], scored.before[which], scored.after[which]
        plot_changed_images(folder / "changed.png", scored.changed, labels, before, after, edited.classes)
        text += "\n![The first test images whose prediction has changed](changed.png)\n"
    return [text]


def _holding(edited: EditedImages) -> str:
    """Return which of several edits, one after the other, hold after the last; nothing where there is one."""
    if not len(edited.made):
        return ""
    lost = [name for name, made, holds in zip(edited.names, edited.made, edited.holds, strict=True) if made & ~holds]
    failed = [name for name, made in zip(edited.names, edited.made, strict=True) if not made]
    said = [f"All {int(edited.made.sum())} edits hold after the last."] if not lost else []
    for names, what in ((lost, "no longer hold after the last"), (failed, "did not succeed, and were left out")):
        if names:
            said.append(f"Edits that {what}: {', '.join(map(markdown_text, names))}.")
    return f"{' '.join(said)}\n\n"


def _scored(outcome: ImageEditOutcome) -> dict[str, ScoredImages]:
    """Return the test images by what they are called: those that count as harm and, where they differ, all."""
    scored = outcome.scored
    if not scored.edited.any():
        return {"test images": scored}
    sets = {"test images that are not edited": scored.others, "test images with the edited ones": scored}
    return {name: some for name, some in sets.items() if len(some.labels)}


def _errors(name: str, scored: ScoredImages) -> list[str]:
    wrong = ((labels != scored.labels).double().mean().item() for labels in (scored.before, scored.after))
    return [f"errors on {len(scored.labels)} {name}", *(f"{100 * share:.2f} %" for share in wrong)]


def _title(outcome: ImageEditOutcome) -> str:
    """Return what the edit is called."""
    count, steps = len(outcome.edited.names), outcome.edited.num_steps
    return f"Edit of {count} image{'s' * (count > 1)} in {steps} step{'s' * (steps > 1)}"


def _told(probabilities: Tensor, classes: list[str]) -> str:
    """Return the likeliest class, and how likely it is."""
    label = int(probabilities.argmax())
    return f"{classes[label]} ({100 * probabilities[label]:.1f} %)"
