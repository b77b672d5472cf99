"""What a study of the inverse direction leaves for its reader: the table of methods, why rules are lost, figures."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from editable.atomic import write_csv
from editable.callbacks.invert.methods import METHODS, Constraint, MethodOutcome
from editable.callbacks.rewrite.trials import SetErrors
from editable.tables import markdown_table, terminal_table
from editable.visualize import plot_exemplars
from editable.visualize.inverse import plot_survival, plot_trade_off

if TYPE_CHECKING:
    from editable.callbacks.invert.callback import InverseDirectionStudy

__all__ = ["InverseDirectionReport"]

MOST_EXEMPLARS = 8
SET_NAMES = {
    "report": "test images",
    "exemplars": "the exemplars with the new concept",
    "held_out": "held-out images with the new concept",
}
SHORT_NAMES = {"report": "test", "exemplars": "rule", "held_out": "held out"}


class InverseDirectionReport:
    """Table and figures of a study.

    Args:
        run: The callback, when everything is measured.
    """

    def __init__(self, run: "InverseDirectionStudy") -> None:
        self.run = run

    def table(self) -> Table:
        """Return the table for the terminal."""
        header = ["method", "survives", "residual", *(SHORT_NAMES[name] for name in self.run.before)]
        title = f"{self.run.layer}, accuracy in % at strength {self.run.reported_strength:g}"
        return terminal_table(header, self._short_rows(), title=title)

    def write(self, folder: Path) -> list[str]:
        """Write all files into a folder; return the report's sections in Markdown."""
        write_csv(folder / "methods.csv", self._figures())
        rule, some = self.run.rule, slice(MOST_EXEMPLARS)
        plot_exemplars(
            folder / "exemplars.png", rule.originals[some], rule.manipulated[some], rule.masks[some], rule.names[some]
        )
        self._plot_survival(folder / "survival.png")
        sections = [
            f"## Inverse direction\n\n{self._describe()}\n\n{markdown_table(self._header(), self._rows())}\n",
            f"{self._survival()}\n\n![Accuracy and the residual of the constraint](survival.png)\n",
        ]
        if len(self.run.strengths) > 1:
            self._plot_trade_off(folder / "trade_off.png")
            strengths = ", ".join(f"{strength:g}" for strength in self.run.strengths)
            sections.append(
                f"### Weaker and stronger\n\nStrengths {strengths}; all figures are in [methods.csv](methods.csv).\n\n"
                "![What rewrites gain, and what they cost](trade_off.png)\n"
            )
        sections.append(f"### Exemplars\n\n{len(rule)} exemplars.\n\n![Exemplars](exemplars.png)\n")
        return sections

    def _describe(self) -> str:
        run = self.run
        counts = [f"{errors.num_images} {SET_NAMES[name]}" for name, errors in run.before.items()]
        return (
            f"`{run.layer}`, one rule. The residual is how far the layer is from "
            "the rule's constraint in the forward direction, relative to what is wanted, before and after; of a "
            "rewrite in the inverse direction also before its matrix was inverted back (*inverse*). Loss is the mean "
            "absolute difference of the block's output from its target inside the mask. The change of outputs is that "
            f"of the layer on at most {run.num_moment_images} other images, ‖ΔW ⋆ A‖ / ‖W ⋆ A‖, which closed forms "
            "keep smallest, each in its own sense. Architectures (arch.) are those of Elango 2021, figure 2-3. "
            f"Accuracy at strength {run.reported_strength:g}, on {', '.join(counts)}."
        )

    def _header(self) -> list[str]:
        sets = [f"accuracy on {SET_NAMES[name]}" for name in self.run.before]
        return [
            "method",
            "inverse residual",
            "residual",
            "survives",
            "loss",
            "change of outputs",
            "change of the weight",
            *sets,
        ]

    def _rows(self) -> Iterator[list[str]]:
        yield ["unedited", *[""] * 6, *(_percent(errors.before, errors) for errors in self.run.before.values())]
        for name, outcome in self.run.outcomes.items():
            constraint, result = outcome.constraint, outcome.result
            yield [
                METHODS[name].label,
                "" if constraint.inverse is None else f"{constraint.inverse:.1e}",
                f"{constraint.before:.2g} → {constraint.after:.2g}",
                _survives(constraint),
                f"{result.loss_before:.3g} → {result.loss:.3g}",
                f"{100 * outcome.output_change:.2f} %",
                f"{100 * result.relative_norm:.1f} %",
                *(_percent(errors.after, errors) for errors in self._errors(outcome).values()),
            ]

    def _short_rows(self) -> Iterator[list[str]]:
        """Yield what fits on a terminal."""
        yield ["unedited", "", "", *(f"{_accuracy(errors.before, errors):.2f}" for errors in self.run.before.values())]
        for name, outcome in self.run.outcomes.items():
            constraint = outcome.constraint
            accuracies = (f"{_accuracy(errors.after, errors):.2f}" for errors in self._errors(outcome).values())
            yield [METHODS[name].label, _survives(constraint), f"{constraint.after:.2g}", *accuracies]

    def _survival(self) -> str:
        """Say of each rewrite in the inverse direction whether the rule survives."""
        lines = []
        for name, outcome in self.run.outcomes.items():
            constraint = outcome.constraint
            if constraint.inverse is not None:
                says = constraint.warning or (
                    f"the rule survives: ‖W V* − K*‖ / ‖K*‖ is {constraint.after:.2g}, and was {constraint.before:.2g} "
                    "before"
                )
                lines.append(f"- {METHODS[name].label}: {says}.")
        return "### Does the rule survive?\n\n" + (
            "\n".join(lines) or "Nothing was rewritten in the inverse direction."
        )

    def _errors(self, outcome: MethodOutcome) -> dict[str, SetErrors]:
        return outcome.errors[self.run.reported_strength]

    def _figures(self) -> Iterator[list[object]]:
        """Yield a head and a line for each method and strength, exact."""
        names: list[str] = []
        for outcome in self.run.outcomes.values():
            names += [name for name in outcome.values(self.run.reported_strength) if name not in names]
        yield ["method", "strength", *names]
        for method, outcome in self.run.outcomes.items():
            for strength in self.run.strengths:
                values = outcome.values(strength)
                yield [method, strength, *(values.get(name, "") for name in names)]

    def _plot_survival(self, path: Path) -> None:
        run = self.run
        sets = [name for name in run.before if name != "exemplars"]
        residuals = {METHODS[name].label: outcome.constraint.after for name, outcome in run.outcomes.items()}
        accuracies = {
            SET_NAMES[some]: {
                METHODS[name].label: 1 - self._errors(outcome)[some].after / run.before[some].num_images
                for name, outcome in run.outcomes.items()
            }
            for some in sets
        }
        unedited = {SET_NAMES[some]: 1 - run.before[some].before / run.before[some].num_images for some in sets}
        plot_survival(path, residuals, accuracies, unedited)

    def _plot_trade_off(self, path: Path) -> None:
        run = self.run
        target = "held_out" if "held_out" in run.before else "exemplars"

        def drops(some: str, outcome: MethodOutcome) -> list[float]:
            return [outcome.errors[strength][some].drop for strength in run.strengths]

        gains = {
            METHODS[name].label: [-drop for drop in drops(target, outcome)] for name, outcome in run.outcomes.items()
        }
        costs = {METHODS[name].label: drops("report", outcome) for name, outcome in run.outcomes.items()}
        plot_trade_off(path, gains, costs, SET_NAMES[target], SET_NAMES["report"])


def _survives(constraint: Constraint) -> str:
    if constraint.inverse is None:
        return ""
    return "yes" if constraint.warning is None else "no"


def _accuracy(wrong: int, errors: SetErrors) -> float:
    """Return accuracy in %."""
    return 100 * (1 - wrong / errors.num_images)


def _percent(wrong: int, errors: SetErrors) -> str:
    return f"{_accuracy(wrong, errors):.2f} %"
