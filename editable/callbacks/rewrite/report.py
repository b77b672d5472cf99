"""What a rewrite run leaves for its reader: tables and figures of candidates, exemplars, heat maps, changed images."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from rich.table import Table
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from editable.atomic import write_csv
from editable.callbacks.rewrite.routes import RouteComparison
from editable.callbacks.rewrite.trials import RewriteOutcome, RewriteTrial, SetErrors, best_trial
from editable.callbacks.site.site import RewriteSite, Route
from editable.data import ImageDataModule, denormalise
from editable.rewriting import match_context
from editable.tables import markdown_table, terminal_table
from editable.visualize import (
    plot_candidates,
    plot_changed_images,
    plot_exemplars,
    plot_heat_maps,
    plot_layers,
    plot_routes,
)

if TYPE_CHECKING:
    from editable.callbacks.rewrite.callback import RankOneRewrite

__all__ = ["RewriteReport"]

MOST_EXEMPLARS, MOST_HEAT_MAPS, MOST_CHANGED = 8, 16, 32
SET_NAMES = {
    "report": "test images that chose nothing",
    "exemplars": "the rule's exemplars with the new concept",
    "held_out": "held-out exemplars with the new concept",
    "photographs": "photographs",
    "trial": "trial exemplars with the new concept",
    "trial_originals": "trial exemplars without it",
}


class RewriteReport:
    """Tables and figures of a rewrite run.

    Args:
        run: The callback, when everything is measured.
        network: The unedited network.
        sites: The layers that were rewritten, by name and route.
        sets: The sets of images that are reported.
        data: The data module, which knows classes and normalisation.
    """

    def __init__(
        self,
        run: "RankOneRewrite",
        network: nn.Module,
        sites: Mapping[tuple[str, Route], RewriteSite],
        sets: Mapping[str, Dataset],
        data: ImageDataModule,
    ) -> None:
        self.run, self.network, self.sites, self.sets, self.data = run, network, sites, sets, data

    def table(self) -> Table:
        """Return the outcomes as a table for the terminal, a column for each solver."""
        head, *rows = zip(*self._rows(), strict=True)
        return terminal_table(head, rows)

    def write(self, folder: Path) -> list[str]:
        """Write all files into a folder; return the report's sections in Markdown."""
        rows = list(self._rows())
        write_csv(folder / "solvers.csv", rows)
        sections = [
            f"## Rewrite\n\n{self._describe()}\n\n{markdown_table(rows[0], rows[1:])}\n{self._eligible()}",
            self._exemplars(folder),
        ]
        if self.run.trial_rules and self.run.outcomes:
            sections.append(self._comparison(folder))
        if self.run.trials:
            sections.append(self._candidates(folder))
        if self.run.chosen is not None:
            outcome = self.run.outcomes[self.run.chosen]
            sections.append(self._heat_maps(folder, outcome))
            sections += self._changes(folder, outcome)
        return sections

    def _describe(self) -> str:
        run = self.run
        if run.chosen is None:
            return (
                f"None of {len(run.trials)} candidates corrects an error on the images that choose at a drop of at "
                f"most {100 * run.max_drop:g} points there: nothing was rewritten."
            )
        trial = run.outcomes[run.chosen].trial
        measures, site = trial.measures, self._site(trial)
        how = f"chosen among {len(run.trials)} candidates" if run.trials else "the only candidate"
        return (
            f"Block {' → '.join(f'`{stage}`' for stage in site.block.stages)}, {trial.solver}, rank "
            f"{measures['rank']:.0f}, strength {trial.strength:g}, {how}. The update's norm is "
            f"{100 * measures['relative_norm']:.2f} % of the weight's; loss {measures['loss_before']:.4g} → "
            f"{measures['loss']:.4g} and relative residual of the constraint {measures['residual']:.2g} at strength 1, "
            f"in {measures['num_steps']:.0f} steps and {measures['seconds']:.2f} s. The rewrite is in "
            "[rewrite.safetensors](rewrite.safetensors), to be added to the options of a test (`--patches`); "
            "[rewritten.ckpt](rewritten.ckpt) has the whole rewritten network."
        )

    def _rows(self) -> Iterator[list[str]]:
        """Yield the head of the table, and a row for the best rewrite of each solver."""
        yield ["solver", "layer", "rank", "strength", *(SET_NAMES[name] for name in self.sets)]
        for solver, outcome in self.run.outcomes.items():
            trial = outcome.trial
            mark = self._mark(solver, trial)
            settings = [trial.settings.layer, str(trial.settings.rank), f"{trial.strength:g}"]
            yield [f"{solver}{mark}", *settings, *(_changed(errors) for errors in outcome.errors.values())]

    def _eligible(self) -> str:
        """Say what it means where the best of a solver could not have been chosen."""
        marks = [self._mark(name, outcome.trial) for name, outcome in self.run.outcomes.items()]
        if " (not eligible)" not in marks:
            return ""
        return (
            "\nNot eligible: no candidate of this solver and route corrects an error on the images that choose at a "
            f"drop of at most {100 * self.run.max_drop:g} points there; shown is the one that corrects most.\n"
        )

    def _mark(self, solver: str, trial: RewriteTrial) -> str:
        if self.run.trials and best_trial([trial], self.run.max_drop) is None:
            return " (not eligible)"
        return " (chosen)" if solver == self.run.chosen and len(self.run.outcomes) > 1 else ""

    def _site(self, trial: RewriteTrial) -> RewriteSite:
        return self.sites[trial.settings.layer, trial.settings.route]

    def _comparison(self, folder: Path) -> str:
        """Write the tables that compare routes and solvers on the trial exemplars."""
        run, classes = self.run, self.data.classes
        target = sorted(set(run.rule.labels(classes).tolist()))
        comparison = RouteComparison(run.outcomes, target)
        write_csv(folder / "routes.csv", comparison.rows())
        drops = [errors.drop for errors in comparison.overall.values()]
        plot_routes(folder / "routes.png", list(comparison.overall), comparison.bars(), drops)
        tables = [markdown_table(head, rows) for head, *rows in map(comparison.table, ("target", "others"))]
        named = f"class {classes[target[0]]}" if len(target) == 1 else f"{len(target)} classes of the exemplars"
        return (
            f"### Side by side\n\n{len(self.sets['trial'])} exemplars with the new concept that neither made nor "  # type: ignore[arg-type]
            f"chose a rewrite; the target is the {named}. By true labels, an image counts for the class that it is "
            "of; by the prediction before the edit, for the class that the unedited network gives the image without "
            "the new concept. Errors corrected are net of new ones: (before − after) / before.\n\n"
            + "\n\n".join(tables)
            + "\n\nCounts are in [routes.csv](routes.csv).\n\n![Errors corrected, and the drop](routes.png)\n"
        )

    def _exemplars(self, folder: Path) -> str:
        rule = self.run.rule
        some = slice(MOST_EXEMPLARS)
        plot_exemplars(
            folder / "exemplars.png", rule.originals[some], rule.manipulated[some], rule.masks[some], rule.names[some]
        )
        return f"### Exemplars\n\n{len(rule)} exemplars.\n\n![Exemplars, masks and the new concept](exemplars.png)\n"

    def _candidates(self, folder: Path) -> str:
        run = self.run
        chosen = best_trial(run.trials, run.max_drop)
        counted = [(trial, trial.target, trial.others) for trial in run.trials if trial.target and trial.others]
        plot_candidates(
            folder / "candidates.png",
            [others.drop for _, _, others in counted],
            [target.corrected or 0.0 for _, target, _ in counted],
            [trial.solver for trial, _, _ in counted],
            run.max_drop,
            None if chosen is None else run.trials.index(chosen),
        )
        target, others = counted[0][1], counted[0][2]
        text = (
            f"### Candidates\n\nChosen by {target.num_images} images with the new concept, of which {target.before} "
            f"are wrong before, and {others.num_images} others, at a drop of at most {100 * run.max_drop:g} points on "
            "these. All are in [candidates.csv](candidates.csv).\n\n![Candidates](candidates.png)\n"
        )
        if len(run.layers) > 1:
            by_layer = {layer: [trial for trial in run.trials if trial.settings.layer == layer] for layer in run.layers}
            best = [best_trial(trials, run.max_drop) for trials in by_layer.values()]
            corrected = [trial.target.corrected or 0.0 if trial and trial.target else 0.0 for trial in best]
            drops = [trial.others.drop if trial and trial.others else 0.0 for trial in best]
            plot_layers(folder / "layers.png", run.layers, corrected, drops, run.max_drop)
            text += "\n![The best candidate of each layer](layers.png)\n"
        return text

    def _heat_maps(self, folder: Path, outcome: RewriteOutcome) -> str:
        """Draw where the chosen rewrite's directions are seen: on the exemplars and where they are seen most."""
        site = self._site(outcome.trial)
        shown = "photographs" if "photographs" in self.sets else "report"
        problem = site.problem(outcome.trial.settings.rank)
        images: list[Tensor] = []
        maps: list[Tensor] = []
        titles: list[str] = []
        for name, count in (("exemplars", MOST_HEAT_MAPS // 2), (shown, MOST_HEAT_MAPS // 2)):
            loader = DataLoader(self.sets[name], batch_size=self.data.batch_size)
            matches = match_context(site.block, site.memory, problem.directions, loader, (), key=problem.keys)
            top = matches.ranking[:count]
            images.append(self._drawn(name, top))
            maps.append(matches.upsampled(top))
            titles += [f"{name} {index}" for index in top.tolist()]
        plot_heat_maps(folder / "heat_maps.png", torch.cat(images), torch.cat(maps), titles)
        return (
            "### Where the rule is seen\n\nResponse of the layer's keys to the directions that the rule may change: "
            f"exemplars, and those {SET_NAMES[shown]} that respond most.\n\n![Heat maps](heat_maps.png)\n"
        )

    def _changes(self, folder: Path, outcome: RewriteOutcome) -> Iterator[str]:
        """Draw, of each set, images that became right or wrong."""
        yield "### Corrected and newly broken images\n"
        for name, labels in outcome.labels.items():
            before, after = outcome.before[name], outcome.after[name]
            corrected = ((before != labels) & (after == labels)).nonzero().flatten()
            broken = ((before == labels) & (after != labels)).nonzero().flatten()
            half = MOST_CHANGED // 2
            some = torch.cat([corrected[:half], broken[:half]])
            text = f"Of {SET_NAMES[name]}: {len(corrected)} corrected, {len(broken)} newly broken."
            if len(some):
                plot_changed_images(
                    folder / f"changed_{name}.png",
                    self._drawn(name, some),
                    labels[some],
                    before[some],
                    after[some],
                    self.data.classes,
                )
                text += f"\n\n![Changed {SET_NAMES[name]}](changed_{name}.png)"
            yield f"{text}\n"

    def _drawn(self, name: str, indices: Tensor) -> Tensor:
        """Return some images of a set in [0, 1], [n, C, H, W]."""
        images = torch.stack([torch.as_tensor(self.sets[name][index][0]) for index in indices.tolist()])
        return denormalise(images, self.data.mean, self.data.std)


def _changed(errors: SetErrors) -> str:
    change = f"{100 * errors.before / errors.num_images:.2f} → {100 * errors.after / errors.num_images:.2f} % wrong"
    return f"{change} ({errors.before} → {errors.after} of {errors.num_images})"
