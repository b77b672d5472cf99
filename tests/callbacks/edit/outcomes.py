"""Outcomes of edits made by hand."""

import torch

from editable.callbacks.edit import ImageEditOutcome
from editable.callbacks.edit.outcome import EditedImages, ScoredImages

CLASSES = ["cat", "dog", "frog"]


def images(number: int) -> torch.Tensor:
    return torch.rand(number, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def edited_images(num_views: int = 4) -> EditedImages:
    """Two images, the first from cat to dog, the second from frog to cat; half of the views follow."""
    return EditedImages(
        ["a.png", "b.png"],
        CLASSES,
        images(2),
        torch.tensor([1, 0]),
        torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]]),
        torch.tensor([[0.1, 0.9, 0.0], [0.6, 0.2, 0.2]]),
        torch.zeros(2, num_views) > 0,
        (torch.arange(num_views) % 2 == 0).expand(2, -1),
        3,
    )


def scored_images() -> ScoredImages:
    """Twelve test images, of which two are edited and became right.

    Of the ten others one became right, two became wrong, and one is wrong in another way.
    """
    return ScoredImages(
        torch.tensor([1, 0, 0, 0, 1, 1, 1, 0, 2, 2, 2, 2]),
        torch.tensor([0, 0, 0, 1, 1, 1, 0, 2, 2, 2, 0, 0]),
        torch.tensor([1, 0, 0, 0, 1, 0, 0, 0, 2, 1, 0, 1]),
        torch.tensor([1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]) > 0,
        images(4),
    )


def image_edit_outcome(max_drawdown: float = 0.2, num_views: int = 4) -> ImageEditOutcome:
    return ImageEditOutcome(edited_images(num_views), scored_images(), max_drawdown)
