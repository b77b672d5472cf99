"""What a rewrite run leaves for its reader: tables and figures of candidates, exemplars, heat maps, changed images."""

from collections.abc import Iterator
from pathlib import Path

from editable.callbacks.rewrite.outcome import MeasuredRewrite, RewriteOutcome, ShownHeatMaps
from editable.callbacks.rewrite.routes import RouteComparison
from editable.callbacks.rewrite.trials import best_trial
from editable.callbacks.site.set_errors import SetErrors
from editable.tables import Table, markdown_code, markdown_text
from editable.visualize import (
    plot_candidates,
    plot_changed_images,
    plot_contact_sheet,
    plot_heat_maps,
    plot_layers,
    plot_routes,
)

__all__ = ["summary", "write"]

SET_NAMES = {
    "report": "test images that chose nothing",
    "report_without_exemplars": "those of them that are no exemplars",
    "exemplars": "the rule's exemplars with the new concept",
    "held_out": "held-out exemplars with the new concept",
    "photographs": "photographs",
    "trial": "trial exemplars with the new concept",
    "trial_originals": "trial exemplars without it",
}


def summary(outcome: RewriteOutcome) -> Table:
    """Return errors before and after the best rewrite of each solver and route, a column for each."""
    solvers = _solvers(outcome)
    head, *rows = zip(solvers.columns, *solvers.rows, strict=True)
    return Table(head, rows)


def write(outcome: RewriteOutcome, folder: Path) -> list[str]:
    """Write all files into a folder; return the report's sections in Markdown."""
    solvers = _solvers(outcome)
    solvers.write_csv(folder / "solvers.csv")
    sections = [
        f"## Rewrite\n\n{_described(outcome)}\n\n{solvers.markdown()}\n{_eligible(outcome)}",
        _exemplars(outcome, folder),
    ]
    if any("trial" in rewrite.labels for rewrite in outcome.rewrites.values()):
        sections.append(_comparison(outcome, folder))
    if outcome.trials:
        sections.append(_candidates(outcome, folder))
    if outcome.heat_maps is not None:
        sections.append(_heat_maps(outcome.heat_maps, folder))
    if outcome.chosen_rewrite is not None:
        sections += _changes(outcome, outcome.chosen_rewrite, folder)
    return sections


def _described(outcome: RewriteOutcome) -> str:
    """Say what was chosen, and what it changes."""
    if outcome.chosen_rewrite is None:
        return (
            f"None of {len(outcome.trials)} candidates corrects an error on the images that choose at a drop of at "
            f"most {100 * outcome.max_drop:g} points there: nothing was rewritten."
        )
    trial = outcome.chosen_rewrite.trial
    measures = trial.measures
    how = f"chosen among {len(outcome.trials)} candidates" if outcome.trials else "the only candidate"
    return (
        f"Block {' → '.join(map(markdown_code, outcome.stages))}, {trial.solver}, rank "
        f"{measures['rank']:.0f}, strength {trial.strength:g}, {how}. The update's norm is "
        f"{100 * measures['relative_norm']:.2f} % of the weight's; loss {measures['loss_before']:.4g} → "
        f"{measures['loss']:.4g} and relative residual of the constraint {measures['residual']:.2g} at strength 1, "
        f"in {measures['num_steps']:.0f} steps and {measures['seconds']:.2f} s. The rewrite is in "
        "[rewrite.safetensors](rewrite.safetensors), to be added to the options of a test (`--patches`); "
        "[rewritten.ckpt](rewritten.ckpt) has the whole rewritten network."
    )


def _solvers(outcome: RewriteOutcome) -> Table:
    """Return a row for the best rewrite of each solver and route."""
    sets = next(iter(outcome.rewrites.values())).labels
    rows = []
    for solver, rewrite in outcome.rewrites.items():
        trial = rewrite.trial
        settings = [trial.settings.layer, str(trial.settings.rank), f"{trial.strength:g}"]
        errors = map(_changed, rewrite.errors.values())
        rows.append([f"{solver}{_mark(outcome, solver, rewrite)}", *settings, *errors])
    return Table(["solver", "layer", "rank", "strength", *(SET_NAMES[name] for name in sets)], rows)


def _eligible(outcome: RewriteOutcome) -> str:
    """Say what it means where the best of a solver could not have been chosen."""
    marks = [_mark(outcome, name, rewrite) for name, rewrite in outcome.rewrites.items()]
    if " (not eligible)" not in marks:
        return ""
    return (
        "\nNot eligible: no candidate of this solver and route corrects an error on the images that choose at a "
        f"drop of at most {100 * outcome.max_drop:g} points there; shown is the one that corrects most.\n"
    )


def _mark(outcome: RewriteOutcome, solver: str, rewrite: MeasuredRewrite) -> str:
    if outcome.trials and best_trial([rewrite.trial], outcome.max_drop) is None:
        return " (not eligible)"
    return " (chosen)" if solver == outcome.chosen and len(outcome.rewrites) > 1 else ""


def _comparison(outcome: RewriteOutcome, folder: Path) -> str:
    """Write the tables that compare routes and solvers on the trial exemplars."""
    target = outcome.target
    comparison = RouteComparison(outcome.rewrites, target)
    comparison.counts().write_csv(folder / "routes.csv")
    drops = [errors.drop for errors in comparison.overall.values()]
    plot_routes(folder / "routes.png", list(comparison.overall), comparison.bars(), drops)
    tables = "\n\n".join(comparison.table(group).markdown() for group in ("target", "others"))
    named = f"{len(target)} classes of the exemplars"
    if len(target) == 1:
        named = f"class {markdown_text(outcome.classes[target[0]])}"
    num_exemplars = len(next(iter(outcome.rewrites.values())).labels["trial"])
    return (
        f"### Side by side\n\n{num_exemplars} exemplars with the new concept that neither made nor "
        f"chose a rewrite; the target is the {named}. By true labels, an image counts for the class that it is "
        "of; by the prediction before the edit, for the class that the unedited network gives the image without "
        "the new concept. Errors corrected are net of new ones: (before − after) / before.\n\n"
        f"{tables}\n\nCounts are in [routes.csv](routes.csv).\n\n![Errors corrected, and the drop](routes.png)\n"
    )


def _exemplars(outcome: RewriteOutcome, folder: Path) -> str:
    shown = outcome.exemplars
    plot_contact_sheet(folder / "exemplars.png", shown.originals, shown.manipulated, shown.masks, shown.names)
    return (
        f"### Exemplars\n\n{shown.num_exemplars} exemplars.\n\n![Exemplars, masks and the new concept](exemplars.png)\n"
    )


def _candidates(outcome: RewriteOutcome, folder: Path) -> str:
    """Draw what all candidates come to on the images that choose, and the best of each layer."""
    trials, max_drop = outcome.trials, outcome.max_drop
    chosen = best_trial(trials, max_drop)
    counted = [(trial, trial.target, trial.others) for trial in trials if trial.target and trial.others]
    plot_candidates(
        folder / "candidates.png",
        [others.drop for _, _, others in counted],
        [target.corrected or 0.0 for _, target, _ in counted],
        [trial.solver for trial, _, _ in counted],
        max_drop,
        None if chosen is None else trials.index(chosen),
    )
    target, others = counted[0][1], counted[0][2]
    text = (
        f"### Candidates\n\nChosen by {target.num_images} images with the new concept, of which {target.before} "
        f"are wrong before, and {others.num_images} others, at a drop of at most {100 * max_drop:g} points on "
        "these. All are in [candidates.csv](candidates.csv).\n\n![Candidates](candidates.png)\n"
    )
    if len(outcome.layers) > 1:
        by_layer = [[trial for trial in trials if trial.settings.layer == layer] for layer in outcome.layers]
        best = [best_trial(some, max_drop) for some in by_layer]
        corrected = [trial.target.corrected or 0.0 if trial and trial.target else 0.0 for trial in best]
        drops = [trial.others.drop if trial and trial.others else 0.0 for trial in best]
        plot_layers(folder / "layers.png", outcome.layers, corrected, drops, max_drop)
        text += "\n![The best candidate of each layer](layers.png)\n"
    return text


def _heat_maps(shown: ShownHeatMaps, folder: Path) -> str:
    """Draw where the chosen rewrite's directions are seen: on the exemplars and where they are seen most."""
    plot_heat_maps(folder / "heat_maps.png", shown.images, shown.maps, shown.titles)
    return (
        "### Where the rule is seen\n\nResponse of the layer's keys to the directions that the rule may change: "
        f"exemplars, and those {SET_NAMES[shown.set_name]} that respond most.\n\n![Heat maps](heat_maps.png)\n"
    )


def _changes(outcome: RewriteOutcome, rewrite: MeasuredRewrite, folder: Path) -> Iterator[str]:
    """Draw, of each set, images that became right or wrong."""
    yield "### Corrected and newly broken images\n"
    for name, labels in rewrite.labels.items():
        corrected, broken = len(rewrite.corrected(name)), len(rewrite.broken(name))
        text = f"Of {SET_NAMES[name]}: {corrected} corrected, {broken} newly broken."
        if name in outcome.changes:
            some = outcome.changes[name].positions
            plot_changed_images(
                folder / f"changed_{name}.png",
                outcome.changes[name].images,
                labels[some],
                rewrite.before[name][some],
                rewrite.after[name][some],
                outcome.classes,
            )
            text += f"\n\n![Changed {SET_NAMES[name]}](changed_{name}.png)"
        yield f"{text}\n"


def _changed(errors: SetErrors) -> str:
    change = f"{100 * errors.before / errors.num_images:.2f} → {100 * errors.after / errors.num_images:.2f} % wrong"
    return f"{change} ({errors.before} → {errors.after} of {errors.num_images})"
