"""Views of an image that are edited with it, so that an edit holds for more than its pixels."""

import torch
from torch import Tensor
from torch.nn import functional

from editable.errors import require_at_least, require_seed

__all__ = ["shifted_views"]


def shifted_views(images: Tensor, number: int, seed: int = 0) -> Tensor:
    """Return views of each image: shifted by up to an eighth of its sides, and every second one flipped sideways.

    What comes in at a border repeats it. The draws are the same for all images.

    Args:
        images: As the network gets them, [N, C, H, W].
        number: V.
        seed: Of the draws.

    Returns:
        Views [N, V, C, H, W].
    """
    require_at_least(0, number=number)
    require_seed(seed=seed)
    height, width = images.shape[-2:]
    pads = max(1, height // 8), max(1, width // 8)
    padded = functional.pad(images, (pads[1], pads[1], pads[0], pads[0]), mode="replicate")
    generator = torch.Generator().manual_seed(seed)
    views = []
    for view in range(number):
        top, left = (int(torch.randint(2 * pad + 1, (), generator=generator)) for pad in pads)
        shifted = padded[..., top : top + height, left : left + width]
        views.append(shifted.flip(-1) if view % 2 else shifted)
    return torch.stack(views, dim=1) if views else images.new_zeros(len(images), 0, *images.shape[1:])
