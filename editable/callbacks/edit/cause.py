"""Why an edit cannot be made, or did not succeed: what was found, and what to do about it."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from editable.data.images.same_images import SameImages
from editable.editing import EditResult, MarginObjective
from editable.errors import UserError

__all__ = ["refuse_impossible", "why_it_failed"]


def refuse_impossible(
    names: Sequence[str], images: Tensor, labels: Tensor, logits: Tensor, classes: Sequence[str]
) -> None:
    """Raise a :class:`UserError` where no edit can do what is asked.

    Args:
        names: Of the images.
        images: [N, C, H, W].
        labels: Asked for, int64 [N].
        logits: Of the unedited network, [N, C].
        classes: Names of the classes.
    """
    for first, second in SameImages(images).pairs():
        if labels[first] != labels[second]:
            asked = " and ".join(classes[int(labels[some])] for some in (first, second))
            raise UserError(
                f"the images {names[first]} and {names[second]} are the same image, but {asked} were asked for: give "
                "each image one label"
            )
    finite = logits.isfinite().all(dim=1)
    if not finite.all():
        raise UserError(
            f"the network's logits of {names[int((~finite).nonzero()[0])]} are NaN or infinite before any edit: look "
            "at its weights and its precision, and at the mean and std of the data"
        )


def why_it_failed(
    result: EditResult,
    logits: Callable[[Mapping[str, Tensor]], Tensor],
    params: Mapping[str, Tensor],
    labels: Tensor,
    learns_views: bool,
) -> str:
    """Return what kept an edit from success, and what to do.

    Args:
        result: What the editor returned.
        logits: From parameters to the logits [M, C] of all that was edited, differentiable.
        params: The unedited parameters.
        labels: Asked for, int64 [M].
        learns_views: Whether views are among what was edited.
    """
    objective = MarginObjective(strict=True)  # which has a gradient at a tie
    start = {name: param.detach().requires_grad_() for name, param in params.items()}
    with torch.enable_grad():
        before = objective(logits(start), labels)
        connected = before.requires_grad and any(
            gradient is not None and gradient.count_nonzero()
            for gradient in torch.autograd.grad(before, list(start.values()), allow_unused=True)
        )
    with torch.no_grad():
        after = logits(result.params)
    fewer = "edit fewer views (evaluation.edited_views), " if learns_views else ""
    if not after.isfinite().all():
        return "the network's logits became NaN or infinite on the way: lower the editor's learning rate"
    if not connected:
        return (
            "no gradient of what is asked reaches the editable layers: choose layers on which the logits of these "
            "images depend (evaluation.editable_layers)"
        )
    if not result.num_steps:
        return "the editor made no step: allow more steps (its max_steps)"
    if objective(after, labels) >= before:
        return (
            f"the labels asked for are further away than before: {fewer}lower the editor's learning rate, or choose "
            "more editable layers"
        )
    return (
        f"it came nearer, but not far enough: {fewer}allow more steps (the editor's max_steps), a higher learning rate "
        "or more editable layers"
    )
