"""What a look at a rewrite leaves for its reader: a table, curves, figures of maps and of images."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from editable.callbacks.see.outcome import ExemplarMaps, SeeingOutcome, SeenRewrite
from editable.tables import Table, markdown_code
from editable.visualize import plot_contact_sheet
from editable.visualize.seeing import StageCurves, plot_image_rows, plot_map_rows, plot_stages

__all__ = ["summary", "write"]

SHOWN: tuple[Literal["original", "manipulated"], ...] = ("original", "manipulated")
NETWORKS = ("before", "after")
COLUMNS = ("stage", "values of the", "network", "loss fell by", "to the original", "to the manipulated")
CURVES = ("stage", "values_of", "network", "item", "step", "loss", "to_original", "to_manipulated")
DISTANCES = {"lpips": "LPIPS", "standin": "stand-in for LPIPS"}


def summary(outcome: SeeingOutcome) -> Table:
    """Return what values were traced back to as a table."""
    return Table(COLUMNS, list(_rows(outcome)), f"Values of {outcome.rewrite.layer} traced back")


def write(outcome: SeeingOutcome, folder: Path) -> list[str]:
    """Write curves and figures into a folder; return the report's sections in Markdown."""
    Table(CURVES, list(_curves(outcome))).write_csv(folder / "seeing.csv")
    plot_contact_sheet(folder / "exemplars.png", *outcome.exemplars)
    plot_stages(folder / "curves.png", list(_stages(outcome)))
    plot_image_rows(folder / "inversions.png", _images(outcome), outcome.exemplars.names)
    restarts = len(outcome.stages["images"].before.final_losses)
    sections = [
        f"## What the rewrite has changed\n\n{_describe(outcome)}\n\n{summary(outcome).markdown()}\n\n"
        "All curves are in [seeing.csv](seeing.csv). Dashed: before the rewrite; solid: after it.\n\n"
        "![Losses, and how near what is found comes to both](curves.png)\n\n"
        "### Exemplars\n\n![Exemplars, masks and the new concept](exemplars.png)\n",
        "### Images\n\nExemplars, and what the layer's values on them were traced back to, each the best of "
        f"{restarts} random starts:\n\n![Images traced back](inversions.png)\n",
    ]
    return sections if outcome.maps is None else [*sections, _maps(outcome, outcome.maps, folder)]


def _describe(outcome: SeeingOutcome) -> str:
    rewrite = outcome.rewrite
    how = (
        f"{rewrite.solver}, strength {rewrite.strength:g}" if rewrite.edited is None else markdown_code(rewrite.edited)
    )
    block = " → ".join(map(markdown_code, rewrite.block))
    whose = "the unedited network" if outcome.traced_values == "unedited" else "each network itself"
    return (
        f"Block {block}; rewritten by {how}: {100 * rewrite.relative_norm:.2f} % of the weight's norm, mean "
        f"absolute difference from what is wanted {rewrite.loss_before:.4g} → {rewrite.loss:.4g}. Values of "
        f"{whose} are traced back. {_describe_keys(rewrite)} Keys and features are compared "
        "by their cosine (higher is nearer), features under the mask; images by "
        f"{outcome.distance_description} (lower is nearer)."
    )


def _describe_keys(rewrite: SeenRewrite) -> str:
    ambiguity = (
        f"Keys have {len(rewrite.keys)} entries, in {rewrite.num_open_dimensions} dimensions of which the memory "
        "recalls the same whatever they are: there a key that is found is as its random start."
        if rewrite.num_open_dimensions
        else "The memory recalls a different value for each key, so that a value leads back to one key."
    )
    return (
        f"{ambiguity} Its condition number is {rewrite.condition_before:.3g} before and {rewrite.condition:.3g} after "
        "the rewrite: the greater, the more updates it takes to find a key. The directions that the rule may change "
        f"respond to the originals' mean key {rewrite.response_ratio:.2g} times as much as to that of the manipulated "
        "exemplars: the nearer to 0, the less the rewrite changes what is recalled for the originals, and the less the "
        "rewritten memory tells these two apart."
    )


def _rows(outcome: SeeingOutcome) -> Iterator[list[str]]:
    for stage, traced in outcome.stages.items():
        for shown in SHOWN:
            for when, found in zip(NETWORKS, traced.of(shown), strict=True):
                ratio = float(found.loss_ratios.log().mean().exp())
                near = [f"{float(found.watched[name][-1].mean()):.3f}" for name in SHOWN]
                yield [stage, shown, when, f"{ratio:.3g} ×", *near]


def _curves(outcome: SeeingOutcome) -> Iterator[list[Any]]:
    for stage, traced in outcome.stages.items():
        for shown in SHOWN:
            for when, found in zip(NETWORKS, traced.of(shown), strict=True):
                for record, step in enumerate(found.recorded.tolist()):
                    for item in range(found.losses.shape[1]):
                        near = [float(found.watched[name][record, item]) for name in SHOWN]
                        yield [stage, shown, when, item, step, float(found.losses[step, item]), *near]


def _stages(outcome: SeeingOutcome) -> Iterator[StageCurves]:
    for stage, traced in outcome.stages.items():
        own = dict(zip(NETWORKS, traced.of("original"), strict=True))
        yield StageCurves(
            f"{stage}, from the values of originals",
            DISTANCES[outcome.distance_name] if stage == "images" else "cosine similarity",
            {when: found.losses for when, found in own.items()},
            own["before"].recorded,
            {when: found.watched for when, found in own.items()},
        )


def _images(outcome: SeeingOutcome) -> dict[str, Tensor]:
    """Return rows of images: each kind of exemplar, and what its values were traced back to."""
    exemplars = outcome.exemplars
    rows: dict[str, Tensor] = {}
    for shown, images in zip(SHOWN, (exemplars.originals, exemplars.manipulated), strict=True):
        rows[shown] = images
        for when, found in zip(NETWORKS, outcome.stages["images"].of(shown), strict=True):
            rows[f"traced back\n{when}, from\n{shown}"] = found.found
    return rows


def _maps(outcome: SeeingOutcome, maps: ExemplarMaps, folder: Path) -> str:
    originals, manipulated, masks, names = outcome.exemplars
    upsampled, alone = (
        {"original": responses[: len(names)], "manipulated": responses[len(names) :]}
        for responses in (maps.matches.upsampled(), maps.matches.heat_maps)
    )
    similarities = {
        f"{when}, to the\n{name}": similarity
        for when, by_name in maps.similarities.items()
        for name, similarity in by_name.items()
    }
    lengths = {"original": maps.wanted} | {f"manipulated,\n{when}": some for when, some in maps.lengths.items()}
    images = {"original": originals, "manipulated": manipulated}
    plot_map_rows(folder / "heat_maps.png", upsampled, names, "⟨D, key⟩", masks, images)
    plot_map_rows(folder / "key_maps.png", alone, names, "⟨D, key⟩", masks)
    plot_map_rows(folder / "similarity_maps.png", similarities, names, "cosine similarity", masks)
    plot_map_rows(folder / "feature_maps.png", lengths, names, "‖features‖", masks)
    plot_map_rows(folder / "change_maps.png", maps.changes, names, "‖change‖", masks)
    return (
        "### Maps\n\nThe concept's place is outlined. Response of keys to the directions that the rule may change; "
        "it lies before the layer and does not change with it:\n\n![Responses on the exemplars](heat_maps.png)\n\n"
        "![The same, alone](key_maps.png)\n\n"
        "Features that the originals' values were traced back to, compared place by place with those that the "
        "layer reads of the original and of the manipulated exemplar:\n\n"
        "![Similarity place by place](similarity_maps.png)\n\n"
        "What the block gives (lengths over channels), and how far the rewrite changes it:\n\n"
        "![Feature maps before and after](feature_maps.png)\n\n"
        "![How far the rewrite changes them](change_maps.png)\n"
    )
