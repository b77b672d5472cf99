"""One call that rewrites a layer: where it sees one concept, it shall behave as it does for another."""

from typing import Any

import torch
from torch import Tensor, nn

from editable.calls.asked import image_batch
from editable.calls.fix import changed_copy
from editable.calls.judge import Judge, Judged, Transform, halves, transform_of
from editable.calls.request import FULL
from editable.calls.rule import Rule
from editable.calls.running import logits_on
from editable.calls.said_once import each_sentence_once
from editable.data.images.same_images import SameImages
from editable.editing import Cost, EditPatch, EditRecord, upper_bound
from editable.editing.choosing.tried import Harm
from editable.errors import UserError, require_finite, require_seed, require_within
from editable.models.machine.full_precision import full_precision
from editable.rewriting import (
    ClosedForm,
    InverseMoment,
    LayerBlock,
    Regularisation,
    RewriteProblem,
    Solver,
    collect_second_moment,
    exemplars_from_images,
    make_memory,
)

__all__ = ["rewrite"]


@full_precision()
@each_sentence_once()
def rewrite(
    network: nn.Module,
    layer: str,
    exemplars: tuple[Any, Any, Tensor],
    *,
    judge: Judged,
    solver: Solver | None = None,
    strength: float = 1.0,
    epsilon: float = 1e-4,
    references: Judged | None = None,
    transform: Transform | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> Rule:
    """Find a rewrite by which a layer treats a new concept as it does a known one; nothing is changed yet.

    Args:
        network: A classifier in full precision, on any device; it stays as it is.
        layer: Name of a convolution or linear layer.
        exemplars: Images that show the known concept, the same images with the new one in its place, and where it is,
            a mask in [0, 1] [n, H, W]. Images are given as to :func:`editable.edit`.
        judge: Labelled images, as the network gets them: a loader, a data set, or two tensors.
        solver: How the rewrite is solved; in closed form by default.
        strength: Of the change; 1 is all of it.
        epsilon: Added to each eigenvalue of the keys' second moment, relative to their mean.
        references: Images for the second moment; by default one half of the judge's, drawn by seed, which then judges
            no more.
        transform: Makes of a picture what the network gets; by default the judge's.
        level: Confidence of the bound on broken images.
        seed: Of the halves.

    Returns:
        The rewrite, to be looked at and applied.

    Raises:
        UserError: If an argument cannot be meant, or there is no such layer.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
        >>> images, mask = torch.randn(6, 1, 4, 4), torch.ones(6, 4, 4)
        >>> judge = torch.randn(80, 1, 4, 4), torch.randint(3, (80,))
        >>> rewrite(network, "0", (images, images + 1, mask), judge=judge).harm.num_images
        40
    """
    require_within("(0, 1)", level=level)
    require_finite(strength=strength)
    require_seed(seed=seed)
    if not isinstance(exemplars, tuple | list) or len(exemplars) != 3:
        raise UserError("exemplars are three things: images, the same images manipulated, and masks [n, H, W]")
    _require_full_precision(network)
    judging = Judge(judge)
    judging.fit(network)
    make = transform or transform_of(judging)
    first = next(network.parameters())
    originals, manipulated = (image_batch(images, make).to(first.device, first.dtype) for images in exemplars[:2])
    judged, rest = halves(len(judging), references is None, seed)
    others, where = (judging, rest.tolist()) if references is None else (Judge(references, "references"), None)
    if references is not None:
        others.fit(network)
    solver = solver or ClosedForm()
    block = LayerBlock(network, layer)
    memory = make_memory(tuple(block.weight.shape), block.geometry)
    moment = collect_second_moment(block, memory, (images.to(first.dtype) for images, _ in others.batches(where)))
    inverse = InverseMoment(moment, Regularisation(epsilon=epsilon))
    made = exemplars_from_images(block, originals, manipulated, _masks(exemplars[2]).to(originals))
    wanted, before = _predicted(network, originals), _predicted(network, manipulated)
    kept = next(iter(others.batches(where)))[0].to(originals) if solver.uses_references else None
    problem = RewriteProblem(
        block,
        memory,
        made,
        inverse,
        images=manipulated,
        labels=wanted.to(first.device),
        reference_images=kept,
        originals=originals,
    )
    result = solver(problem)
    record = EditRecord(
        [f"{len(manipulated)} manipulated exemplars are taken for what the originals show, at {layer}"],
        {"solver": type(solver).__name__, "layer": layer, "strength": strength},
    )
    patch = EditPatch.of(network, result.scaled(network, strength), record)
    rewritten = changed_copy(network, patch)
    harm = _harm(network, rewritten, judging, judged, torch.cat([originals, manipulated]).cpu(), level)
    return Rule(layer, solver, wanted, before, _predicted(rewritten, manipulated), harm, result, patch, network)


def _require_full_precision(network: nn.Module) -> None:
    for name, parameter in network.named_parameters():
        if parameter.is_floating_point() and parameter.dtype not in FULL:
            raise UserError(
                f"a rewrite needs a network in full precision, but '{name}' is {parameter.dtype}: call float()"
            )


def _masks(given: Any) -> Tensor:
    """Return masks [n, H, W], which may be given one by one."""
    try:
        several = isinstance(given, list | tuple) and any(isinstance(some, Tensor) for some in given)
        return torch.stack([torch.as_tensor(some) for some in given]) if several else torch.as_tensor(given)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"masks must be numbers [n, H, W], one mask of the same size for each exemplar: {error}"
        ) from error


def _harm(network: nn.Module, rewritten: nn.Module, judge: Judge, judged: Tensor, used: Tensor, level: float) -> Harm:
    """Return what a rewrite costs on the judge's images, without those that are exemplars."""
    same, parts = SameImages(used), []
    for images, labels in judge.batches(judged.tolist()):
        parts.append((labels, _predicted(network, images), _predicted(rewritten, images), ~same(images.cpu())))
    labels, before, after, other = (torch.cat(some) for some in zip(*parts, strict=True))
    if not other.any():
        raise UserError("judge has no images but the exemplars: give others")
    cost = Cost(labels[other], before[other], after[other])
    return Harm.of(cost, judged[other], float(upper_bound(cost.num_broken, len(cost.labels), level)), level)


def _predicted(network: nn.Module, images: Tensor) -> Tensor:
    return logits_on(network, images).argmax(dim=1)
