"""The measures of an edit as pure functions of counts, outcomes and steps."""

from torch import Tensor

from editable.errors import UserError, require_at_least

__all__ = ["agreement", "drawdown", "drawdown_absolute", "errors_corrected", "generality", "num_steps", "success_rate"]


def drawdown(errors_before: Tensor, errors_after: Tensor, num_images: int) -> Tensor:
    """Mean over edits of (error rate after the edit) − (error rate before), signed.

    Args:
        errors_before: Number of misclassified images before any edit, int64, scalar or shape [E].
        errors_after: Number of misclassified images after each edit, int64, shape [E].
        num_images: Number of images that both were counted on.

    Returns:
        Scalar float64 in [−1, 1]; positive where edits harm.

    Raises:
        UserError: If there is no edit or no image.
    """
    return _changes(errors_before, errors_after, num_images).mean()


def drawdown_absolute(errors_before: Tensor, errors_after: Tensor, num_images: int) -> Tensor:
    """Mean over edits of |(error rate after the edit) − (error rate before)|; see :func:`drawdown`."""
    return _changes(errors_before, errors_after, num_images).abs().mean()


def success_rate(success: Tensor) -> Tensor:
    """Share of edits whose objective reached ≤ 0 within the allowed steps.

    Args:
        success: Bool, shape [E].

    Returns:
        Scalar float64 in [0, 1].

    Raises:
        UserError: If there is no edit.
    """
    return _mean(success)


def num_steps(steps: Tensor) -> Tensor:
    """Mean number of updates over all edits; an edit that failed counts with the k updates it made.

    Args:
        steps: int64, shape [E].

    Returns:
        Scalar float64.

    Raises:
        UserError: If there is no edit.
    """
    return _mean(steps)


def agreement(agreeing: Tensor, num_images: int) -> Tensor:
    """Mean over edits of the share of images whose prediction after the edit is that before.

    Args:
        agreeing: Number of images with the same prediction before and after each edit, shape [E].
        num_images: Number of images that were compared.

    Returns:
        Scalar float64 in [0, 1].

    Raises:
        UserError: If there is no edit or no image.
    """
    require_at_least(1, num_images=num_images)
    return _mean(agreeing) / num_images


def generality(held: Tensor, num_views: int) -> Tensor:
    """Mean over edits of the share of views of the edited input that have the label asked for.

    Args:
        held: Number of views of each edited input with the label asked for, int64, shape [E].
        num_views: Number of views of each.

    Returns:
        Scalar float64 in [0, 1].

    Raises:
        UserError: If there is no edit or no view.
    """
    require_at_least(1, num_views=num_views)
    return _mean(held) / num_views


def errors_corrected(wrong_before: Tensor, wrong_after: Tensor) -> Tensor:
    """(errors before − errors after) / errors before: the share of mistakes that a rewrite corrects, net of new ones.

    Source: Santurkar et al., NeurIPS 2021.

    Args:
        wrong_before: Whether the network before gets each image wrong, bool [N].
        wrong_after: The same of the network after.

    Returns:
        Scalar float64, at most 1, negative where more is broken than corrected; NaN, as undefined, where there was no
        error before.
    """
    before = wrong_before.sum().double()
    return (before - wrong_after.sum().double()) / before if before else before.new_tensor(float("nan"))


def _mean(outcomes: Tensor) -> Tensor:
    if outcomes.numel() == 0:
        raise UserError("a mean over edits needs at least one edit, got none")
    return outcomes.double().mean()


def _changes(errors_before: Tensor, errors_after: Tensor, num_images: int) -> Tensor:
    require_at_least(1, num_images=num_images)
    if errors_after.numel() == 0:
        raise UserError("drawdown needs at least one edit, got none")
    return (errors_after - errors_before).double() / num_images
