"""What a rewrite does to a generator's images: change where the context matches, towards the target, and elsewhere."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional

from editable.errors import UserError, require_at_least, require_within
from editable.models import evaluation_mode, generate
from editable.rewriting.keys.context_keys import resize_mask
from editable.rewriting.keys.problem import RewriteProblem
from editable.rewriting.memory.memory import PixelMemory
from editable.rewriting.solvers.base import with_parameters

__all__ = ["GeneratorOutcome", "MatchedContext", "measure_generator"]

OUTSIDE = 1e-3  # part of a change that may lie outside of the directions' span by rounding


class MatchedContext(NamedTuple):
    """Where the keys of N generated images respond to the directions D of a rule.

    Attributes:
        responses: ⟨D, k⟩ for one direction, ‖Dᵀk‖ for several, [N, h, w].
        threshold: The quantile of all responses from which on the context matches.
        matched: Where it does, 0 or 1, on the block's output, [N, H', W'].
        reached: What the kernel reaches from there, [N, H', W'].
        strongest_elsewhere: The largest ‖Dᵀk‖ among keys where the context does not match.
    """

    responses: Tensor
    threshold: float
    matched: Tensor
    reached: Tensor
    strongest_elsewhere: float


class GeneratorOutcome(NamedTuple):
    """What a rewrite has done to images that it has not seen.

    Features are the block's output. *Matched* are the positions where the context matches, *elsewhere* those that the
    kernel does not reach from there. On pixels the two are laid over the image by area; the layers behind the rewritten
    one spread a change by a few pixels more.

    *Progress* is the mean change at matched positions along the change that was wanted, as a part of it:
    ⟨mean Δv, t⟩ / ‖t‖² with t the mean of target − before over the exemplars' masks. 1 is all of it, 0 none, a negative
    value is the wrong way.

    Attributes:
        num_images: Number of images looked at.
        matched_positions: Part of the positions of the block's output that match.
        matched_images: Part of the images with such a position.
        feature_progress: Of the block's output.
        feature_distance_before: Mean absolute difference from the mean target at matched positions, before.
        feature_distance: The same after.
        feature_change_matched: Mean absolute change of the block's output at matched positions.
        feature_change_elsewhere: The same elsewhere; none if there is no such position.
        pixel_progress: Of the pixels; none if what was wanted of them is not known.
        pixel_change_matched: Mean absolute change of matched pixels, in the units of the images.
        pixel_change_elsewhere: The same of pixels elsewhere; none if there are none.
        pixel_change_unmatched_images: The same over whole images where nothing matches; none if there are none.
        output_change_elsewhere: The largest change of the layer's own output at a position elsewhere, mean absolute
            over channels.
        output_bound: What it cannot exceed: ρ Σ_taps ‖Λ‖, mean over channels, for a change ΔW = Λ Dᵀ and ρ the largest
            ‖Dᵀk‖ of a key that does not match; none for a change outside of the directions' span.
    """

    num_images: int
    matched_positions: float
    matched_images: float
    feature_progress: float
    feature_distance_before: float
    feature_distance: float
    feature_change_matched: float
    feature_change_elsewhere: float | None
    pixel_progress: float | None
    pixel_change_matched: float
    pixel_change_elsewhere: float | None
    pixel_change_unmatched_images: float | None
    output_change_elsewhere: float
    output_bound: float | None


@torch.no_grad()
def measure_generator(
    problem: RewriteProblem,
    params: Mapping[str, Tensor],
    latents: Tensor,
    wanted_pixels: Tensor | None = None,
    quantile: float = 0.99,
    batch_size: int = 100,
    progress: Callable[[int], object] = lambda images: None,
) -> tuple[GeneratorOutcome, MatchedContext]:
    """Compare a generator's images before and after a rewrite, on latent vectors that it has not seen.

    Args:
        problem: What was asked for, with the block, its memory and the directions D.
        params: The changed parameters by name.
        latents: Of the images, [N, …].
        wanted_pixels: The change of a pixel that was wanted, [C].
        quantile: The context matches where a response reaches this quantile of all responses of these images.
        batch_size: Number of images at once.
        progress: Called with the number of images done since the last call.

    Returns:
        The outcome, and where the context matches.

    Raises:
        UserError: If there is no latent vector, it does not fit, or a number is out of its range.
    """
    require_at_least(1, batch_size=batch_size)
    require_within("(0, 1)", quantile=quantile)
    if not len(latents):
        raise UserError("a rewrite of a generator is measured on at least one latent vector")
    block = problem.block
    latents = latents.to(block.weight)
    parts = latents.split(batch_size)
    generate(block.network, latents[:1])  # says clearly where they do not fit
    context = _match(problem, [block.inputs(part) for part in parts], quantile)
    sums = _Sums(problem, wanted_pixels)
    for part, matched, reached in zip(
        parts, context.matched.split(batch_size), context.reached.split(batch_size), strict=True
    ):
        sums.add(part, params, matched, reached)
        progress(len(part))
    return sums.outcome(params, context), context


def _match(problem: RewriteProblem, inputs: list[Tensor], quantile: float) -> MatchedContext:
    """Find where the context matches. The layer's inputs on all images are small next to what follows."""
    block, memory = problem.block, problem.memory
    directions = problem.directions.to(inputs[0])
    input_size = (inputs[0].shape[-2], inputs[0].shape[-1])
    projections = torch.cat([directions.T @ memory.keys(part) for part in inputs])
    lengths = projections.norm(dim=1)
    responses = projections[:, 0] if directions.shape[1] == 1 else lengths
    threshold = float(responses.double().flatten().sort().values[int(quantile * (responses.numel() - 1))])
    matched = responses >= threshold
    elsewhere = lengths[~matched]
    key_map = memory.key_map_size(input_size)
    on_keys = matched.to(projections).unflatten(1, key_map)
    geometry = block.geometry
    assert geometry is not None, "a problem of generated images is that of a convolution"
    size = geometry.output_size(input_size)
    on_values = (resize_mask(on_keys, size) > 0).to(on_keys)
    reached = on_values
    if isinstance(memory, PixelMemory):
        kernel = on_keys.new_ones(1, 1, *geometry.kernel_size)
        spread = functional.conv2d(on_keys[:, None], kernel, None, geometry.stride, geometry.padding, geometry.dilation)
        reached = torch.maximum(on_values, (spread[:, 0] > 0).to(on_keys))
    return MatchedContext(
        responses.unflatten(1, key_map),
        threshold,
        on_values,
        reached,
        float(elsewhere.max()) if elsewhere.numel() else 0.0,
    )


class _Mean:
    """A weighted mean over a stream."""

    def __init__(self) -> None:
        self.total: Tensor | float = 0.0
        self.weight = 0.0

    def add(self, values: Tensor, weights: Tensor) -> None:
        """Add values [N, …, H, W] with weights [N, H, W]; what stands between is kept apart."""
        self.total = self.total + torch.einsum("n...hw,nhw->...", values.double(), weights.double())
        self.weight += float(weights.sum())

    @property
    def value(self) -> Tensor:
        return torch.as_tensor(self.total) / self.weight

    @property
    def number(self) -> float | None:
        """The mean of numbers, if there is any."""
        return float(self.value) if self.weight else None


class _Sums:
    """Adds up what is measured, batch by batch."""

    def __init__(self, problem: RewriteProblem, wanted_pixels: Tensor | None) -> None:
        self.problem, self.wanted_pixels = problem, wanted_pixels
        before = problem.block.values(problem.exemplars.inputs)
        mask = resize_mask(problem.exemplars.mask, (before.shape[-2], before.shape[-1]))
        target = _Mean()
        target.add(problem.targets, mask)
        wanted = _Mean()
        wanted.add(problem.targets - before, mask)
        self.target, self.wanted = target.value, wanted.value
        self.feature_change, self.pixel_change = _Mean(), _Mean()
        self.distance_before, self.distance = _Mean(), _Mean()
        self.features_matched, self.features_elsewhere = _Mean(), _Mean()
        self.pixels_matched, self.pixels_elsewhere, self.whole_images = _Mean(), _Mean(), _Mean()
        self.output_elsewhere = 0.0

    def add(self, latents: Tensor, params: Mapping[str, Tensor], matched: Tensor, reached: Tensor) -> None:
        block, elsewhere = self.problem.block, 1 - reached
        network, weight = block.network, params.get(block.weight_name)
        inputs = block.inputs(latents)
        inputs_after = with_parameters(network, params, lambda: block.inputs(latents))
        before = block.values(inputs)
        after = with_parameters(network, params, lambda: block.values(inputs_after, weight))
        target = self.target.to(before)[:, None, None]
        self.feature_change.add(after - before, matched)
        self.features_matched.add((after - before).abs().mean(dim=1), matched)
        self.features_elsewhere.add((after - before).abs().mean(dim=1), elsewhere)
        self.distance_before.add((before - target).abs().mean(dim=1), matched)
        self.distance.add((after - target).abs().mean(dim=1), matched)
        changed = with_parameters(network, params, lambda: block.outputs(inputs_after, weight))
        outputs = (changed - block.outputs(inputs)).abs().mean(dim=1) * elsewhere
        self.output_elsewhere = max(self.output_elsewhere, float(outputs.max()))
        self._add_pixels(latents, params, matched, elsewhere)

    def _add_pixels(self, latents: Tensor, params: Mapping[str, Tensor], matched: Tensor, elsewhere: Tensor) -> None:
        network = self.problem.block.network
        with evaluation_mode(network):
            change = functional_call(network, dict(params), (latents,)) - network(latents)
        size = (change.shape[-2], change.shape[-1])
        inside, outside = resize_mask(matched, size), resize_mask(elsewhere, size)
        amount = change.abs().mean(dim=1)
        self.pixel_change.add(change, inside)
        self.pixels_matched.add(amount, inside)
        self.pixels_elsewhere.add(amount, outside)
        untouched = (matched.flatten(1).sum(dim=1) == 0).to(amount)
        self.whole_images.add(amount, untouched[:, None, None].expand_as(amount))

    def outcome(self, params: Mapping[str, Tensor], context: MatchedContext) -> GeneratorOutcome:
        wanted_pixels, matched = self.wanted_pixels, context.matched
        return GeneratorOutcome(
            num_images=len(matched),
            matched_positions=float(matched.mean()),
            matched_images=float((matched.flatten(1).sum(dim=1) > 0).double().mean()),
            feature_progress=_progress(self.feature_change.value, self.wanted),
            feature_distance_before=float(self.distance_before.value),
            feature_distance=float(self.distance.value),
            feature_change_matched=float(self.features_matched.value),
            feature_change_elsewhere=self.features_elsewhere.number,
            pixel_progress=None if wanted_pixels is None else _progress(self.pixel_change.value, wanted_pixels),
            pixel_change_matched=float(self.pixels_matched.value),
            pixel_change_elsewhere=self.pixels_elsewhere.number,
            pixel_change_unmatched_images=self.whole_images.number,
            output_change_elsewhere=self.output_elsewhere,
            output_bound=_bound(self.problem, params, context.strongest_elsewhere),
        )


def _progress(change: Tensor, wanted: Tensor) -> float:
    wanted = wanted.to(change)
    length = float(wanted.square().sum())
    return float((change * wanted).sum()) / length if length else 0.0


def _bound(problem: RewriteProblem, params: Mapping[str, Tensor], response: float) -> float | None:
    """Return the largest mean absolute change of the layer's output that keys of some response can cause.

    A filter's output is a sum over its taps of ⟨λ, Dᵀk⟩, each at most ‖λ‖ ‖Dᵀk‖.
    """
    weight = params.get(problem.block.weight_name)
    if weight is None or len(params) > 1:
        return None
    change = problem.memory.matrix(weight.double()) - problem.matrix
    coefficients = change @ problem.directions
    if (change - coefficients @ problem.directions.T).norm() > OUTSIDE * change.norm():
        return None
    return response * float(coefficients.norm(dim=1).unflatten(0, (len(weight), -1)).sum(dim=1).mean())
