"""What is told of an edit of images: each image and the test error before and after, in a table and figures."""

from pathlib import Path

from torch import Tensor

from editable.callbacks.edit.outcome import Choice, EditedImages, ImageEditOutcome, ScoredImages
from editable.editing.choosing.tried import Tried
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
        rows.append(["images that have the label asked for", "", f"{held} of {len(edited.names)}"])
    rows += [_errors(name, scored) for name, scored in _scored(outcome).items()]
    return Table(["", *_moments(edited)], rows, _title(outcome))


def write(outcome: ImageEditOutcome, folder: Path) -> list[str]:
    """Write the figures; return the report's section in Markdown."""
    edited, scored = outcome.edited, outcome.scored.others
    kept = outcome.refusal or (
        f"Kept as [{PATCH}]({PATCH}), to be added to the options of a test: "
        f"{markdown_code(f'--patches {folder / PATCH}')}, and as "
        f"[{CHECKPOINT}]({CHECKPOINT}), with all other weights."
    )
    names = edited.names
    if len(edited.made):
        names = [f"{name}{'' if made else ' (left out)'}" for name, made in zip(names, edited.made, strict=True)]
    plot_image_edit(
        folder / "edit.png",
        edited.images,
        names,
        edited.labels,
        edited.before,
        edited.after,
        edited.classes,
        _moments(edited),
    )
    text = (
        f"## {markdown_text(_title(outcome))}\n\n{kept}\n\n{_holding(edited)}{summary(outcome).markdown()}\n\n"
        f"![Each image with the probabilities of classes {' and '.join(_moments(edited))}](edit.png)\n\n"
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
    return [text] if outcome.choice is None else [text, _choosing(outcome.choice)]


def _moments(edited: EditedImages) -> tuple[str, str]:
    return ("before all edits", "after the last") if len(edited.made) else ("before", "after")


def _holding(edited: EditedImages) -> str:
    """Return which of several edits, one after the other, hold after the last; nothing where there is one."""
    if not len(edited.made):
        return ""
    lost = [name for name, made, holds in zip(edited.names, edited.made, edited.holds, strict=True) if made & ~holds]
    failed = [name for name, made in zip(edited.names, edited.made, strict=True) if not made]
    number = int(edited.made.sum())
    said = [f"All {number} edits hold after the last." if number > 1 else "The edit holds."] if not lost else []
    for names, what in ((lost, "no longer hold after the last"), (failed, "did not succeed, and were left out")):
        if names:
            said.append(f"Edits that {what}: {', '.join(map(markdown_text, names))}.")
    return f"{' '.join(said)}\n\n"


def _scored(outcome: ImageEditOutcome) -> dict[str, ScoredImages]:
    """Return the test images by what they are called: those that count as harm and, where they differ, all."""
    scored, told = outcome.scored, "other test images" if outcome.choice else "test images"
    if not scored.edited.any():
        return {told: scored}
    sets = {f"{told} that are not edited": scored.others, f"{told} with the edited ones": scored}
    return {name: some for name, some in sets.items() if len(some.labels)}


def _errors(name: str, scored: ScoredImages) -> list[str]:
    wrong = ((labels != scored.labels).double().mean().item() for labels in (scored.before, scored.after))
    return [f"errors on {len(scored.labels)} {name}", *(f"{100 * share:.2f} %" for share in wrong)]


def _title(outcome: ImageEditOutcome) -> str:
    """Return what the edit, or edits one after the other, are called, and by which editor where it was chosen."""
    edited = outcome.edited
    steps = f"in {edited.num_steps} step{'s' * (edited.num_steps != 1)}"
    asked = len(edited.names)
    what = f"Edit of {asked} image{'s' * (asked != 1)} {steps}"
    if len(edited.made):
        made = int(edited.made.sum())
        of = f"{made} of {asked} edits" if made < asked else f"{made} edit{'s' * (made != 1)}"
        what = f"{of}, one after the other, {steps}"
    return what if outcome.choice is None else f"{what} by {_chosen(outcome.choice).title}"


def _chosen(choice: Choice) -> Tried:
    return choice.tried[choice.chosen]


def _choosing(choice: Choice) -> str:
    """Return which editors were tried, in Markdown."""
    harm = _chosen(choice).harm
    assert harm is not None, "an editor is chosen by what it costs"
    return (
        f"### The editor was chosen\n\nOf {len(choice.tried)} editors, each from the unedited network, "
        f"{markdown_text(_chosen(choice).title)} was taken: of those that give most labels, it leaves the fewest of "
        f"{harm.num_images} test images wrong. These have chosen, so that nothing else is counted on them.\n\n"
        f"{_tried(choice).markdown()}\n"
    )


def _tried(choice: Choice) -> Table:
    """Return a table of the editors that were tried, on the images that chose; what could not be tried last."""
    rows, highlighted = [], None
    order = sorted(range(len(choice.tried)), key=lambda some: choice.tried[some].harm is None)
    for place, number in enumerate(order):
        title, success, harm, why, num_right = choice.tried[number]
        taken = number == choice.chosen
        highlighted = place if taken else highlighted
        given = "" if why else f"{num_right} of {choice.num_asked}"
        left_out = why or ("" if success else "not all images get their labels")
        figures = ("", "", "")
        if harm is not None:
            points = f"{harm.points:+.2f} points"
            figures = (points, f"{len(harm.broken)} of {harm.num_images}", f"{100 * harm.bound:.2f} %")
        rows.append([title, given, *figures, "taken" if taken else left_out])
    columns = ["editor", "labels given", "error", "broken", f"at most, {100 * _level(choice):g} %", ""]
    return Table(columns, rows, "Editors that fit the network", highlighted)


def _level(choice: Choice) -> float:
    return next(some.harm.level for some in choice.tried if some.harm is not None)


def _told(probabilities: Tensor, classes: list[str]) -> str:
    """Return the likeliest class, and how likely it is."""
    label = int(probabilities.argmax())
    return f"{classes[label]} ({100 * probabilities[label]:.1f} %)"
