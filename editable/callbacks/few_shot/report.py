"""What is told of rules from a few photographs: a row for each way and number of photographs, and a figure."""

from pathlib import Path

from editable.callbacks.few_shot.outcome import FewShotOutcome, FewShotRow, FewShotTrial
from editable.tables import Table, markdown_text
from editable.visualize import plot_few_shots

__all__ = ["plot", "summary", "write"]

TITLE = "Rules from a few labelled photographs"
COLUMNS = (
    "way",
    "photographs a class",
    "strength",
    "wrong of the classes left out",
    "corrected",
    "makers corrected",
    "drop, points",
    "most broken",
    "bound",
)


def summary(outcome: FewShotOutcome) -> Table:
    """Return a table with a row for each way and number of photographs; the best one stands out."""
    rows = outcome.rows
    return Table(COLUMNS, [_row(row, outcome) for row in rows], TITLE, rows.index(outcome.best))


def write(outcome: FewShotOutcome, folder: Path) -> list[str]:
    """Write the tables and the figure; return the report's section in Markdown."""
    Table(FewShotRow._fields, outcome.rows).write_csv(folder / "few_shot.csv")
    Table(_TRIAL_COLUMNS, [_trial(trial, outcome) for trial in outcome.trials]).write_csv(folder / "few_shot_rules.csv")
    plot(outcome, folder / "few_shot.png")
    left_out = dict.fromkeys(outcome.classes[trial.left_out] for trial in outcome.trials)
    return [
        f"## {TITLE}\n\n{_describe(outcome, len(left_out))}\n\n{summary(outcome).markdown()}\n\n"
        f"![Errors corrected on photographs of classes that made nothing](few_shot.png)\n\n{_kept(outcome)}\n"
    ]


def plot(outcome: FewShotOutcome, path: str | Path) -> None:
    """Draw the figure."""
    points: dict[str, list[tuple[str, float, float]]] = {}
    for row in outcome.rows:
        points.setdefault(row.way, []).append((_shots(row), row.corrected or 0.0, row.spread or 0.0))
    plot_few_shots(path, points)


_TRIAL_COLUMNS = (
    *("way", "shots", "draw", "left_out", "strength", "tested", "wrong_before", "wrong"),
    *("makers", "makers_wrong_before", "makers_wrong", "others", "others_wrong_before", "others_wrong", "broken"),
)


def _trial(trial: FewShotTrial, outcome: FewShotOutcome) -> list[object]:
    name = outcome.classes[trial.left_out]
    counts = (*trial.tested, *trial.makers, *trial.others)
    return [trial.way, trial.shots, trial.draw, name, trial.strength, *counts, trial.broken]


def _shots(row: FewShotRow) -> str:
    return "all" if row.shots is None else str(row.shots)


def _row(row: FewShotRow, outcome: FewShotOutcome) -> list[str]:
    spread = "" if row.spread is None else f" ± {100 * row.spread:.1f}"
    number = outcome.trials[0].others.num_images
    return [
        row.way,
        _shots(row),
        f"{row.strength:.2f}",
        f"{row.before} → {row.after:.4g}",
        "undefined" if row.corrected is None else f"{100 * row.corrected:.1f}{spread} %",
        "undefined" if row.makers_corrected is None else f"{row.makers_corrected:.1%}",
        f"{100 * row.drop:.2f}",
        f"{row.most_broken} of {number}",
        f"{row.bound:.2%}",
    ]


def _kept(outcome: FewShotOutcome) -> str:
    """Say what is kept, and at what harm."""
    rule = outcome.kept
    if rule is None:
        return (
            f"No rule is kept: none that {markdown_text(outcome.best.way)} makes from all photographs corrects an "
            f"error on them at a drop of at most {100 * outcome.max_drop:g} points on both halves of the test images."
        )
    return (
        f"**Kept** is the rule that {markdown_text(rule.way)} makes from all photographs of all classes, at strength "
        f"{rule.strength:g}: {rule.makers.before} → {rule.makers.after} of {rule.makers.num_images} are wrong, which "
        f"made it; of {rule.others.num_images} test images that have chosen nothing {rule.broken} are broken, at most "
        f"{rule.bound(outcome.level):.2%} at {outcome.level:.0%} confidence, and the drop is "
        f"{100 * rule.others.drop:.2f} points. What it does for further classes is what the table says of such rules. "
        "It is in [few_shot.safetensors](few_shot.safetensors), to be added to the options of a test (`--patches`); "
        "[few_shot.ckpt](few_shot.ckpt) has the whole network with it."
    )


def _describe(outcome: FewShotOutcome, num_classes: int) -> str:
    tried = ", ".join(f"{some:g}" for some in outcome.strengths)
    chosen = (
        f"The strength, one of {tried}, is the one that corrects most on photographs of the makers' classes, by rules "
        "made without the class, and on the makers themselves, at a drop of at most "
        f"{100 * outcome.max_drop:g} points on the images that choose."
        if len(outcome.strengths) > 1
        else f"The strength is {tried}, as given."
    )
    return (
        "Each rule is made from photographs of all classes but one, and tested on all photographs of that one, each of "
        f"{num_classes} classes in turn; errors are sums over these, corrected ones net of new ones, ± the standard "
        f"deviation over draws. {chosen} Drops are means over rules, on test images that have chosen nothing; the "
        f"bound is that of the most broken, at {outcome.level:.0%} confidence. {outcome.num_known} images show what "
        "the new concept is taken for; those of the tested class are left out."
    )
