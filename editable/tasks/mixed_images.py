"""Training on mixtures of two images: MixUp and CutMix, one of the two at random for each batch."""

import torch
from torch import Tensor
from torchvision.transforms import v2

from editable.errors import require_not_negative

__all__ = ["MixedImages"]


class MixedImages:
    """Mixes each image of a batch with another one of it; the loss takes their labels in the same proportion.

    By MixUp, λ·x + (1 − λ)·x′ with λ from Beta(α, α) (Zhang et al., ICLR 2018), or by CutMix, a rectangle of x′ in x
    whose area is 1 − λ (Yun et al., ICCV 2019); by torchvision's transforms. Where both have an α, either is as likely.
    What is drawn comes from torch's default generator, which checkpoints keep: a resumed run draws as it would have.

    Args:
        mixup_alpha: α of MixUp; at 0 it is not done.
        cutmix_alpha: α of CutMix; at 0 it is not done.

    Raises:
        UserError: If a number is negative.
    """

    def __init__(self, mixup_alpha: float = 0.0, cutmix_alpha: float = 0.0) -> None:
        require_not_negative(mixup_alpha=mixup_alpha, cutmix_alpha=cutmix_alpha)
        self.mixup_alpha, self.cutmix_alpha = mixup_alpha, cutmix_alpha

    def __bool__(self) -> bool:
        """Return whether anything is mixed."""
        return self.mixup_alpha > 0 or self.cutmix_alpha > 0

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mix a batch.

        Args:
            images: Floats [N, C, H, W].

        Returns:
            The mixed images, and the part that each image of the batch has in each of them, floats [N, N].
        """
        positions = torch.arange(len(images), device=images.device)
        kinds = ((v2.MixUp, self.mixup_alpha), (v2.CutMix, self.cutmix_alpha))
        mixers = [kind(alpha=alpha, num_classes=len(images)) for kind, alpha in kinds if alpha > 0]
        mixed, parts = v2.RandomChoice(mixers)(images, positions)
        return mixed, parts.to(images.dtype)

    @staticmethod
    def targets(parts: Tensor, labels: Tensor, num_classes: int) -> Tensor:
        """Return the part that each class has in each mixed image, floats [N, num_classes].

        Args:
            parts: That each image has in it, [N, N].
            labels: Of the images, int64 [N].
            num_classes: Number of classes.
        """
        return parts.new_zeros(len(parts), num_classes).index_add_(1, labels, parts)
