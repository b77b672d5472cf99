"""What a layer's values come from, before and after a rewrite: keys, features and images, beside those of exemplars."""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from editable.errors import UserError, require_at_least
from editable.rewriting.inverse.inversion import invert_features, invert_images, reconstruct_keys
from editable.rewriting.inverse.reconstruction import Bounds, Reconstruction, ReconstructionSettings, Watch
from editable.rewriting.inverse.similarity import masked_similarity
from editable.rewriting.keys.context_keys import resize_mask
from editable.rewriting.keys.problem import RewriteProblem

__all__ = ["TraceBack", "Traced"]

Progress = Callable[[int], object]


class Traced(NamedTuple):
    """What values were traced back to, by the weight before and by that after the rewrite, from the same starts.

    Watched are how near it is to the ``original`` and to the ``manipulated`` of the same exemplar.

    Attributes:
        before: By the layer's own weight.
        after: By the rewritten weight.
    """

    before: Reconstruction
    after: Reconstruction

    def of(self, shown: Literal["original", "manipulated"]) -> "Traced":
        """Return what became of the values of originals, or of manipulated exemplars, alone."""
        half = self.before.losses.shape[1] // 2
        chosen = slice(half) if shown == "original" else slice(half, None)
        return Traced(self.before.items(chosen), self.after.items(chosen))

    def cpu(self) -> "Traced":
        """Return the same with what was found on the CPU, where all curves are."""
        return Traced(*(some._replace(found=some.found.cpu()) for some in self))


class TraceBack:
    """Traces what a layer recalls for a rule's exemplars back to what it may have come from (Elango 2021, ch. 3).

    A rewrite lets the manipulated exemplars, which show the new concept, give the values that the originals gave. Seen
    backwards: before it, an original's values come from what the original shows, after it from what the manipulated
    exemplar shows. In each stage the values of the n originals are traced back, and those of the n manipulated
    exemplars behind them.

    Which values: those of the ``unedited`` network are what the rule is about. With each network's ``own``, as in the
    thesis, what the exemplar itself shows is always an answer without any error, however the weight was rewritten.

    Args:
        problem: The rule at the layer.
        weight: The rewritten weight.
        values: Whose values are traced back, ``unedited`` or ``own``.
        count: Largest number of exemplars whose features and images are traced back, the first ones; by default all.
            Keys are of all.

    Raises:
        UserError: If the weight has another shape, ``values`` is neither, or the count is below 1.
    """

    def __init__(
        self,
        problem: RewriteProblem,
        weight: Tensor,
        values: Literal["unedited", "own"] = "unedited",
        count: int | None = None,
    ) -> None:
        if weight.shape != problem.weight.shape:
            raise UserError(
                f"the weight of '{problem.block.layer}' is {list(problem.weight.shape)}, the rewritten one "
                f"{list(weight.shape)}"
            )
        if values not in ("unedited", "own"):
            raise UserError(f"values that are traced back are those of the 'unedited' network or its 'own': {values!r}")
        require_at_least(1, count=len(problem.exemplars.inputs) if count is None else count)
        self.problem, self.weights = problem, (problem.weight, weight.detach().to(problem.weight))
        self.own, self.count = values == "own", count

    def keys(self, settings: ReconstructionSettings, progress: Progress = lambda steps: None) -> Traced:
        """Trace mean values, one for each rule, back to keys; similarities are cosines of keys.

        Args:
            settings: Of the descents.
            progress: Called with the number of updates since the last call.
        """
        problem = self.problem
        true = torch.cat([problem.target_keys, problem.keys], dim=1)
        watch = _watched(problem.target_keys.T, problem.keys.T, settings.restarts, torch.cosine_similarity)

        def trace(weight: Tensor) -> Reconstruction:
            matrix = problem.memory.matrix(weight.double())
            values = (matrix if self.own else problem.matrix) @ true
            return reconstruct_keys(matrix, values, settings, watch, progress)

        return Traced(*map(trace, self.weights))

    def features(self, settings: ReconstructionSettings, progress: Progress = lambda steps: None) -> Traced:
        """Trace the block's output back to its input; similarities are cosines under the mask.

        Features that are never negative on the exemplars are looked for among those that are not.

        Args:
            settings: Of the descents; the learning rate is relative to the root mean square of the features.
            progress: Called with the number of updates since the last call.
        """
        block, (inputs, targets) = self.problem.block, self.exemplar_features
        both = torch.cat([targets, inputs])
        scale = float(both.double().square().mean().sqrt()) or 1.0
        bounds: Bounds = (0.0, None) if bool((both >= 0).all()) else (None, None)
        mask = self.feature_mask

        def similarity(first: Tensor, second: Tensor) -> Tensor:
            repeated = None if mask is None else mask.repeat(len(first) // len(mask), 1, 1)
            return masked_similarity(first, second, repeated)

        watch = _watched(targets, inputs, settings.restarts, similarity)
        scaled = replace(settings, learning_rate=settings.learning_rate * scale)

        def trace(weight: Tensor) -> Reconstruction:
            values = self._block_values(both, weight)
            return invert_features(block, values, both.shape[1:], scaled, weight, scale, bounds, watch, progress)

        return Traced(*map(trace, self.weights))

    def images(
        self,
        originals: Tensor,
        manipulated: Tensor,
        settings: ReconstructionSettings,
        distance: Callable[[Tensor, Tensor], Tensor],
        normalise: Callable[[Tensor], Tensor] = lambda images: images,
        total_variation: float = 0.0,
        progress: Progress = lambda steps: None,
    ) -> Traced:
        """Trace the block's output back to images; what is watched are distances.

        Args:
            originals: In [0, 1], [n, C, H, W].
            manipulated: The same with the new concept.
            settings: Of the descents.
            distance: Of images in [0, 1].
            normalise: From images to what the network takes, differentiable.
            total_variation: Weight of the total variation.
            progress: Called with the number of updates since the last call.

        Raises:
            UserError: If these are not images of the exemplars, of one shape that the network takes.
        """
        count, shapes = len(self.problem.exemplars.inputs), (list(originals.shape), list(manipulated.shape))
        if shapes[0] != shapes[1] or len(shapes[0]) != 4 or len(originals) != count:
            raise UserError(
                f"images of the {count} exemplars must be [{count}, C, H, W] twice, got {shapes[0]} and {shapes[1]}"
            )
        block = self.problem.block
        some = slice(self.count)
        originals, manipulated = (images[some].to(self.problem.weight) for images in (originals, manipulated))
        both = torch.cat([originals, manipulated])
        try:
            with torch.no_grad():
                features = block.inputs(normalise(both))
        except RuntimeError as error:  # what torch raises where shapes do not fit
            reason = str(error).partition("\n")[0]
            raise UserError(f"images {shapes[0][1:]} are not what the network takes ({reason})") from error
        watch = _watched(originals, manipulated, settings.restarts, distance)
        channels, height, width = both.shape[1:]

        def trace(weight: Tensor) -> Reconstruction:
            return invert_images(
                block,
                self._block_values(features, weight),
                (channels, height, width),
                settings,
                weight,
                normalise,
                total_variation,
                watch=watch,
                progress=progress,
            )

        return Traced(*map(trace, self.weights))

    @property
    def exemplar_features(self) -> tuple[Tensor, Tensor]:
        """What the layer reads of manipulated exemplars and of originals, [n, …] each."""
        exemplars = self.problem.exemplars
        return exemplars.inputs[: self.count], exemplars.target_inputs[: self.count]

    @property
    def feature_mask(self) -> Tensor | None:
        """The concept's mask on the layer's input, [n, H, W]; none of a linear layer."""
        if self.problem.block.geometry is None:
            return None
        inputs, _ = self.exemplar_features
        return resize_mask(self.problem.exemplars.mask[: self.count], (inputs.shape[-2], inputs.shape[-1])).to(inputs)

    @torch.no_grad()
    def _block_values(self, features: Tensor, weight: Tensor) -> Tensor:
        return self.problem.block.values(features, weight if self.own else self.problem.weight)


def _watched(
    originals: Tensor, manipulated: Tensor, restarts: int, measure: Callable[[Tensor, Tensor], Tensor]
) -> Watch:
    """Measure, of each restart, the originals' and manipulated exemplars' items against both of the same exemplar."""

    def watch(found: Tensor) -> dict[str, Tensor]:
        return {
            name: measure(found, some.repeat(2 * restarts, *[1] * (some.ndim - 1)))
            for name, some in (("original", originals), ("manipulated", manipulated))
        }

    return watch
