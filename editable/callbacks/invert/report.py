"""What a study of the inverse direction leaves for its reader: the table of methods, why rules are lost, figures."""

from collections.abc import Iterator
from pathlib import Path

from editable.callbacks.invert.outcome import Constraint, InverseDirectionOutcome, MethodOutcome
from editable.callbacks.site.set_errors import SetErrors
from editable.tables import Table, markdown_code
from editable.visualize import plot_contact_sheet
from editable.visualize.inverse import plot_survival, plot_trade_off

__all__ = ["summary", "write"]

SET_NAMES = {
    "report": "test images",
    "exemplars": "the exemplars with the new concept",
    "held_out": "held-out images with the new concept",
}
SHORT_NAMES = {"report": "test", "exemplars": "rule", "held_out": "held out"}


def summary(outcome: InverseDirectionOutcome) -> Table:
    """Return what became of the constraint and of accuracy, as much of it as fits on a terminal."""
    columns = ["method", "survives", "residual", *(SHORT_NAMES[name] for name in outcome.before)]
    rows = [["unedited", "", "", *(f"{_accuracy(errors.before, errors):.2f}" for errors in outcome.before.values())]]
    for method in outcome.methods.values():
        errors_on = method.errors[outcome.reported_strength]
        accuracies = (f"{_accuracy(errors.after, errors):.2f}" for errors in errors_on.values())
        rows.append([method.label, _survives(method.constraint), f"{method.constraint.after:.2g}", *accuracies])
    return Table(columns, rows, f"{outcome.layer}, accuracy in % at strength {outcome.reported_strength:g}")


def write(outcome: InverseDirectionOutcome, folder: Path) -> list[str]:
    """Write tables and figures into a folder; return the report's sections in Markdown."""
    _figures(outcome).write_csv(folder / "methods.csv")
    plot_contact_sheet(folder / "exemplars.png", *outcome.exemplars)
    _plot_survival(outcome, folder / "survival.png")
    sections = [
        f"## Inverse direction\n\n{_describe(outcome)}\n\n{_table(outcome).markdown()}\n",
        f"{_survival(outcome)}\n\n![Accuracy and the residual of the constraint](survival.png)\n",
    ]
    if len(outcome.strengths) > 1:
        _plot_trade_off(outcome, folder / "trade_off.png")
        strengths = ", ".join(f"{strength:g}" for strength in outcome.strengths)
        sections.append(
            f"### Weaker and stronger\n\nStrengths {strengths}; all figures are in [methods.csv](methods.csv).\n\n"
            "![What rewrites gain, and what they cost](trade_off.png)\n"
        )
    count = outcome.before["exemplars"].num_images
    sections.append(f"### Exemplars\n\n{count} exemplars.\n\n![Exemplars](exemplars.png)\n")
    return sections


def _describe(outcome: InverseDirectionOutcome) -> str:
    counts = [f"{errors.num_images} {SET_NAMES[name]}" for name, errors in outcome.before.items()]
    return (
        f"{markdown_code(outcome.layer)}, one rule. The residual is how far the layer is from "
        "the rule's constraint in the forward direction, relative to what is wanted, before and after; of a "
        "rewrite in the inverse direction also before its matrix was inverted back (*inverse*). Loss is the mean "
        "absolute difference of the block's output from its target inside the mask. The change of outputs is that "
        f"of the layer on at most {outcome.num_moment_images} other images, ‖ΔW ⋆ A‖ / ‖W ⋆ A‖, which closed forms "
        "keep smallest, each in its own sense. Architectures (arch.) are those of Elango 2021, figure 2-3. "
        f"Accuracy at strength {outcome.reported_strength:g}, on {', '.join(counts)}."
    )


def _table(outcome: InverseDirectionOutcome) -> Table:
    columns = [
        "method",
        "inverse residual",
        "residual",
        "survives",
        "loss",
        "change of outputs",
        "change of the weight",
        *(f"accuracy on {SET_NAMES[name]}" for name in outcome.before),
    ]
    rows = [["unedited", *[""] * 6, *(_percent(errors.before, errors) for errors in outcome.before.values())]]
    for method in outcome.methods.values():
        constraint, errors_on = method.constraint, method.errors[outcome.reported_strength]
        row = [
            method.label,
            "" if constraint.inverse is None else f"{constraint.inverse:.1e}",
            f"{constraint.before:.2g} → {constraint.after:.2g}",
            _survives(constraint),
            f"{method.loss_before:.3g} → {method.loss:.3g}",
            f"{100 * method.output_change:.2f} %",
            f"{100 * method.relative_norm:.1f} %",
            *(_percent(errors.after, errors) for errors in errors_on.values()),
        ]
        rows.append(row)
    return Table(columns, rows)


def _survival(outcome: InverseDirectionOutcome) -> str:
    """Say of each rewrite in the inverse direction whether the rule survives."""
    lines = []
    for method in outcome.methods.values():
        constraint = method.constraint
        if constraint.inverse is not None:
            says = constraint.warning or (
                f"the rule survives: ‖W V* − K*‖ / ‖K*‖ is {constraint.after:.2g}, and was {constraint.before:.2g} "
                "before"
            )
            lines.append(f"- {method.label}: {says}.")
    return "### Does the rule survive?\n\n" + ("\n".join(lines) or "Nothing was rewritten in the inverse direction.")


def _figures(outcome: InverseDirectionOutcome) -> Table:
    """Return a row for each method and strength, exact."""
    names: list[str] = []
    for method in outcome.methods.values():
        names += [name for name in method.values(outcome.reported_strength) if name not in names]

    def rows() -> Iterator[list[object]]:
        for name, method in outcome.methods.items():
            for strength in outcome.strengths:
                values = method.values(strength)
                yield [name, strength, *map(values.get, names)]

    return Table(["method", "strength", *names], list(rows()))


def _plot_survival(outcome: InverseDirectionOutcome, path: Path) -> None:
    before, methods = outcome.before, outcome.methods.values()
    sets = [name for name in before if name != "exemplars"]
    residuals = {method.label: method.constraint.after for method in methods}
    accuracies = {
        SET_NAMES[some]: {
            method.label: 1 - method.errors[outcome.reported_strength][some].after / before[some].num_images
            for method in methods
        }
        for some in sets
    }
    unedited = {SET_NAMES[some]: 1 - before[some].before / before[some].num_images for some in sets}
    plot_survival(path, residuals, accuracies, unedited)


def _plot_trade_off(outcome: InverseDirectionOutcome, path: Path) -> None:
    target = "held_out" if "held_out" in outcome.before else "exemplars"

    def drops(some: str, method: MethodOutcome) -> list[float]:
        return [method.errors[strength][some].drop for strength in outcome.strengths]

    methods = outcome.methods.values()
    gains = {method.label: [-drop for drop in drops(target, method)] for method in methods}
    costs = {method.label: drops("report", method) for method in methods}
    plot_trade_off(path, gains, costs, SET_NAMES[target], SET_NAMES["report"])


def _survives(constraint: Constraint) -> str:
    return {None: "", True: "yes", False: "no"}[constraint.survives]


def _accuracy(wrong: int, errors: SetErrors) -> float:
    """Return accuracy in %."""
    return 100 * (1 - wrong / errors.num_images)


def _percent(wrong: int, errors: SetErrors) -> str:
    return f"{_accuracy(wrong, errors):.2f} %"
