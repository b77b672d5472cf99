"""What a look at a rewrite leaves for its reader: a table, curves, figures of maps and of images."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from rich.table import Table
from torch import Tensor

from editable.atomic import write_csv
from editable.data import ImageDataModule
from editable.rewriting.inverse.inversion import num_open_dimensions
from editable.rewriting.inverse.similarity import position_similarity
from editable.tables import markdown_table, terminal_table
from editable.visualize import plot_exemplars
from editable.visualize.seeing import StageCurves, plot_image_rows, plot_map_rows, plot_stages

if TYPE_CHECKING:
    from editable.callbacks.see.callback import Seeing, Seen

__all__ = ["SeeingReport"]

SHOWN: tuple[Literal["original", "manipulated"], ...] = ("original", "manipulated")
HEADER = ("stage", "values of the", "network", "loss fell by", "to the original", "to the manipulated")


class SeeingReport:
    """Tables and figures of a look at a rewrite.

    Args:
        run: The callback.
        seen: What it has seen.
        data: The data module, which knows normalisation.
    """

    def __init__(self, run: "Seeing", seen: "Seen", data: ImageDataModule) -> None:
        self.run, self.seen, self.data = run, seen, data
        rule, some = run.rule, slice(run.num_exemplars)
        self.originals, self.manipulated, self.masks = rule.originals[some], rule.manipulated[some], rule.masks[some]
        self.names = [name.rpartition("/")[2] for name in rule.names[some]]

    def table(self) -> Table:
        """Return what values were traced back to as a table for the terminal."""
        return terminal_table(HEADER, self._rows(), f"Values of {self.seen.problem.block.layer} traced back")

    def write(self, folder: Path) -> list[str]:
        """Write all files into a folder; return the report's sections in Markdown."""
        write_csv(folder / "seeing.csv", self._curves())
        plot_exemplars(folder / "exemplars.png", self.originals, self.manipulated, self.masks, self.names)
        plot_stages(folder / "curves.png", list(self._stages()))
        self._plot_images(folder / "inversions.png")
        sections = [
            f"## What the rewrite has changed\n\n{self._describe()}\n\n{markdown_table(HEADER, self._rows())}\n\n"
            "All curves are in [seeing.csv](seeing.csv). Dashed: before the rewrite; solid: after it.\n\n"
            "![Losses, and how near what is found comes to both](curves.png)\n\n"
            "### Exemplars\n\n![Exemplars, masks and the new concept](exemplars.png)\n",
            "### Images\n\nExemplars, and what the layer's values on them were traced back to, each the best of "
            f"{self.run.descents['images'].restarts} random starts:\n\n![Images traced back](inversions.png)\n",
        ]
        return [*sections, self._maps(folder)] if self.seen.matches is not None else sections

    def _describe(self) -> str:
        seen, run = self.seen, self.run
        values = seen.values()
        how = f"`{run.edited}`" if run.edited is not None else f"{type(run.solver).__name__}, strength {run.strength:g}"
        stages = " → ".join(f"`{stage}`" for stage in seen.problem.block.stages)
        whose = "the unedited network" if run.traced_values == "unedited" else "each network itself"
        return (
            f"Block {stages}; rewritten by {how}: {100 * values['relative_norm']:.2f} % of the weight's norm, mean "
            f"absolute difference from what is wanted {values['loss_before']:.4g} → {values['loss']:.4g}. Values of "
            f"{whose} are traced back. {self._describe_keys(values['response_ratio'])} Keys and features are compared "
            "by their cosine (higher is nearer), features under the mask; images by "
            f"{seen.distance.description} (lower is nearer)."
        )

    def _describe_keys(self, ratio: float) -> str:
        problem = self.seen.problem
        open_dimensions = num_open_dimensions(problem.matrix)
        rewritten = problem.memory.matrix(self.seen.weight.double())
        before, after = (float(torch.linalg.cond(matrix)) for matrix in (problem.matrix, rewritten))
        ambiguity = (
            f"Keys have {problem.memory.key_size} entries, in {open_dimensions} dimensions of which the memory recalls "
            "the same whatever they are: there a key that is found is as its random start."
            if open_dimensions
            else "The memory recalls a different value for each key, so that a value leads back to one key."
        )
        return (
            f"{ambiguity} Its condition number is {before:.3g} before and {after:.3g} after the rewrite: the greater, "
            "the more updates it takes to find a key. The directions that the rule may change respond to the "
            f"originals' mean key {ratio:.2g} times as much as to that of the manipulated exemplars: the nearer to 0, "
            "the less the rewrite changes what is recalled for the originals, and the less the rewritten memory tells "
            "these two apart."
        )

    def _rows(self) -> Iterator[list[str]]:
        for stage, traced in self.seen.stages.items():
            for shown in SHOWN:
                for when, found in zip(("before", "after"), traced.of(shown), strict=True):
                    ratio = float(found.loss_ratios.log().mean().exp())
                    near = [f"{float(found.watched[name][-1].mean()):.3f}" for name in SHOWN]
                    yield [stage, shown, when, f"{ratio:.3g} ×", *near]

    def _curves(self) -> Iterator[list[Any]]:
        yield ["stage", "values_of", "network", "item", "step", "loss", "to_original", "to_manipulated"]
        for stage, traced in self.seen.stages.items():
            for shown in SHOWN:
                for when, found in zip(("before", "after"), traced.of(shown), strict=True):
                    for record, step in enumerate(found.recorded.tolist()):
                        for item in range(found.losses.shape[1]):
                            near = [float(found.watched[name][record, item]) for name in SHOWN]
                            yield [stage, shown, when, item, step, float(found.losses[step, item]), *near]

    def _stages(self) -> Iterator[StageCurves]:
        for stage, traced in self.seen.stages.items():
            own = dict(zip(("before", "after"), traced.of("original"), strict=True))
            distance = {"lpips": "LPIPS", "standin": "stand-in for LPIPS"}[self.seen.distance.name]
            yield StageCurves(
                f"{stage}, from the values of originals",
                distance if stage == "images" else "cosine similarity",
                {when: found.losses for when, found in own.items()},
                own["before"].recorded,
                {when: found.watched for when, found in own.items()},
            )

    def _plot_images(self, path: Path) -> None:
        traced = self.seen.stages["images"]
        rows: dict[str, Tensor] = {}
        for shown, images in zip(SHOWN, (self.originals, self.manipulated), strict=True):
            rows[shown] = images
            for when, found in zip(("before", "after"), traced.of(shown), strict=True):
                rows[f"traced back\n{when}, from\n{shown}"] = found.found
        plot_image_rows(path, rows, self.names)

    def _maps(self, folder: Path) -> str:
        matches = self.seen.matches
        assert matches is not None, "maps are drawn where keys have places"
        count = len(self.originals)
        heat, keys = (
            {"original": maps[:count], "manipulated": maps[count:]} for maps in (matches.upsampled(), matches.heat_maps)
        )
        images = {"original": self.originals, "manipulated": self.manipulated}
        plot_map_rows(folder / "heat_maps.png", heat, self.names, "⟨D, key⟩", self.masks, images)
        plot_map_rows(folder / "key_maps.png", keys, self.names, "⟨D, key⟩", self.masks)
        plot_map_rows(
            folder / "similarity_maps.png",
            self._similarity_maps(),
            self.names,
            "cosine similarity",
            self.masks,
        )
        features, changes = self._feature_maps()
        plot_map_rows(folder / "feature_maps.png", features, self.names, "‖features‖", self.masks)
        plot_map_rows(folder / "change_maps.png", changes, self.names, "‖change‖", self.masks)
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

    def _similarity_maps(self) -> dict[str, Tensor]:
        manipulated, originals = self.seen.trace.exemplar_features
        return {
            f"{when}, to the\n{name}": position_similarity(found.found, true)
            for when, found in zip(("before", "after"), self.seen.stages["features"].of("original"), strict=True)
            for name, true in (("original", originals), ("manipulated", manipulated))
        }

    @torch.no_grad()
    def _feature_maps(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return lengths of what the block gives, and of how the rewrite changes it."""
        block, weight = self.seen.problem.block, self.seen.weight
        manipulated, originals = self.seen.trace.exemplar_features
        wanted, before, after = block.values(originals), block.values(manipulated), block.values(manipulated, weight)
        rows = {"original": wanted, "manipulated,\nbefore": before, "manipulated,\nafter": after}
        changes = {"original": block.values(originals, weight) - wanted, "manipulated": after - before}
        features, changed = ({name: maps.norm(dim=1) for name, maps in some.items()} for some in (rows, changes))
        return features, changed
