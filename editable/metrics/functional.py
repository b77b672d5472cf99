"""The measures of an edit as pure functions of error counts, outcomes and steps."""

from torch import Tensor

from editable.errors import UserError

__all__ = ["drawdown", "drawdown_absolute", "num_steps", "success_rate"]


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


def _mean(outcomes: Tensor) -> Tensor:
    if outcomes.numel() == 0:
        raise UserError("a mean over edits needs at least one edit, got none")
    return outcomes.double().mean()


def _changes(errors_before: Tensor, errors_after: Tensor, num_images: int) -> Tensor:
    if errors_after.numel() == 0 or num_images < 1:
        raise UserError(
            f"drawdown needs at least one edit and one image, got {errors_after.numel()} edits and {num_images} images"
        )
    return (errors_after - errors_before).double() / num_images
