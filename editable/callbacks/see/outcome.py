"""What a look at a rewrite leaves: the rewrite at its layer, what values were traced back to, and maps of exemplars."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from editable.callbacks.run.replaced_examples import ReplacedExamples
from editable.rewriting import ContextMatches
from editable.rewriting.inverse.trace_back import Traced

__all__ = ["ExemplarMaps", "SeeingOutcome", "SeenRewrite"]


@dataclass(frozen=True)
class SeenRewrite:
    """A rewrite of one layer, with the layer as a memory W [f, c] that keys of c entries are given to.

    Attributes:
        layer: Name of the layer.
        block: Names of what the block is made of, from the layer to its activation.
        edited: The file of the rewritten network; none where a solver has made it.
        solver: Class of that solver.
        strength: Scale on the solver's update.
        weight: The rewritten weight, in the layer's own shape.
        relative_norm: ‖W₁ − W₀‖ / ‖W₀‖.
        loss_before: Mean absolute difference of the block's output from what is wanted, inside the mask.
        loss: The same after the rewrite.
        target_keys: Mean key of the originals for each rule, float64 [c, S].
        keys: Mean key of the manipulated exemplars for each rule, float64 [c, S].
        directions: D, those that the rule may change, float64 [c, rank or S].
        num_open_dimensions: In how many dimensions a key can be changed without changing what W₀ recalls for it.
        condition_before: Condition number of W₀.
        condition: Condition number of W₁.
    """

    layer: str
    block: list[str]
    edited: str | None
    solver: str
    strength: float
    weight: Tensor
    relative_norm: float
    loss_before: float
    loss: float
    target_keys: Tensor
    keys: Tensor
    directions: Tensor
    num_open_dimensions: int
    condition_before: float
    condition: float

    @property
    def response_ratio(self) -> float:
        """How much D responds to the mean keys of the originals, relative to those of the manipulated exemplars."""
        originals, manipulated = ((self.directions.T @ keys).norm() for keys in (self.target_keys, self.keys))
        return float(originals / manipulated)


@dataclass(frozen=True)
class ExemplarMaps:
    """Maps of n exemplars at a convolution, all on the CPU.

    Attributes:
        matches: Responses ⟨D, k⟩ of the keys of the n originals, and of the n manipulated exemplars behind them.
        similarities: Cosines, place by place, of the features that the originals' values were traced back to with those
            that the layer reads: by the network, ``before`` and ``after``, and by what they are compared with,
            ``original`` and ``manipulated``, [n, H, W] each.
        wanted: Lengths of what the unedited block gives for originals, [n, H', W'].
        lengths: The same for manipulated exemplars, ``before`` and ``after`` the rewrite, [n, H', W'] each.
        changes: Lengths of what the rewrite changes, for ``original`` and ``manipulated``, [n, H', W'] each.
    """

    matches: ContextMatches
    similarities: dict[str, dict[str, Tensor]]
    wanted: Tensor
    lengths: dict[str, Tensor]
    changes: dict[str, Tensor]


@dataclass(frozen=True)
class SeeingOutcome:
    """All that was looked at, on the CPU.

    Attributes:
        rewrite: The rewrite, and its layer.
        exemplars: Those whose features and images were traced back, n of them; names without folders.
        traced_values: Whose values were traced back, those of the ``unedited`` network or of each network's ``own``.
        stages: What they were traced back to, by stage: ``keys``, ``features``, ``images``.
        distance_name: Of the distance of images, ``lpips`` or ``standin``.
        distance_description: What a reader is told about it.
        maps: Of the exemplars; none of a linear layer, whose keys have no places.
    """

    rewrite: SeenRewrite
    exemplars: ReplacedExamples
    traced_values: Literal["unedited", "own"]
    stages: dict[str, Traced]
    distance_name: str
    distance_description: str
    maps: ExemplarMaps | None

    def values(self) -> dict[str, float]:
        """Return what is logged, of the originals' values."""
        rewrite, names = self.rewrite, {"before": "_before", "after": ""}
        values = {
            "num_exemplars": len(self.exemplars.names),
            "relative_norm": rewrite.relative_norm,
            "loss_before": rewrite.loss_before,
            "loss": rewrite.loss,
            "response_ratio": rewrite.response_ratio,
        }
        for stage, traced in self.stages.items():
            measure = self.distance_name if stage == "images" else "similarity"
            for when, found in zip(names, traced.of("original"), strict=True):
                values[f"{stage}_loss_ratio{names[when]}"] = float(found.loss_ratios.log().mean().exp())
                for name, watched in found.watched.items():
                    values[f"{stage}_{name}_{measure}{names[when]}"] = float(watched[-1].mean())
        return values
