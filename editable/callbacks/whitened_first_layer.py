"""A first convolution that whitens the patches of training images, set before training."""

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.nn import functional

from editable.callbacks.run.context import image_data, network_of
from editable.errors import UserError, require_at_least, require_not_negative, require_seed
from editable.models import whiten_convolution

__all__ = ["WhitenedFirstLayer"]


class WhitenedFirstLayer(Callback):
    """Sets the first convolution of a network so that it whitens the patches of its training images.

    :func:`editable.models.whiten_convolution` has the formula. It happens before a fit; weights that the fit starts
    from, or goes on with from a checkpoint, keep their own layer.

    Args:
        layer: Name of the convolution in the network.
        num_images: Largest number of unaugmented training images that patches are taken from, drawn by seed.
        epsilon: What is added to each variance.
        seed: Of the draw.

    Raises:
        UserError: If a number is out of its range; when it runs, if the network has no such convolution.
    """

    def __init__(self, layer: str = "whitening", num_images: int = 5000, epsilon: float = 5e-4, seed: int = 0) -> None:
        require_at_least(1, num_images=num_images)
        require_not_negative(epsilon=epsilon)
        require_seed(seed=seed)
        self.layer, self.num_images, self.epsilon, self.seed = layer, num_images, epsilon, seed

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Whiten, where a fit begins from random weights: before checkpoints and averages of weights are made."""
        if stage != "fit" or trainer.ckpt_path is not None or getattr(pl_module, "weights", None) is not None:
            return
        layer = dict(network_of(pl_module).named_modules()).get(self.layer)
        if not isinstance(layer, nn.Conv2d):
            raise UserError(f"the network has no convolution '{self.layer}' to whiten, which WhitenedFirstLayer names")
        whiten_convolution(layer, self._patches(trainer, layer), self.epsilon)

    def _patches(self, trainer: Trainer, layer: nn.Conv2d) -> Tensor:
        """Return what the layer is applied to, [n, values]; the padding is left out."""
        images = image_data(trainer, "a whitened first layer").unaugmented_training_images()
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(self.seed))
        drawn = torch.stack([images[index][0] for index in order[: self.num_images].tolist()])
        patches = functional.unfold(drawn, layer.kernel_size, layer.dilation, stride=layer.stride)  # [N, values, P]
        return patches.transpose(1, 2).flatten(0, 1)
