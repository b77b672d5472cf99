"""An extra layer whose keys are decorrelated before a run, so that an edit of one image hardly reaches others."""

from typing import Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from editable.callbacks.run.context import image_data, network_of
from editable.callbacks.run.edit_loop import progress_bars, validates_alone
from editable.callbacks.site.sets import moment_dataset
from editable.callbacks.site.site import MomentImages
from editable.errors import UserError, require_at_least
from editable.models import ExtraLayer
from editable.rewriting import InverseMoment, LayerBlock, Regularisation, make_memory

__all__ = ["WhitenedExtraLayer"]


class WhitenedExtraLayer(Callback):
    """Whitens what the extra layer reads: W₁ ← W₁ C^{-1/2}, with the second moment C = E[h hᵀ] over training images.

    The layer, h + W₂·ELU(W₁h + b₁) + b₂, stays the identity, as W₂ = 0. But edits of W₂ move the layer's output at
    another image by Σⱼ sign(zⱼ) z'ⱼ, z = ELU(W₁h + b₁), as far as RMSProp's steps are those of signs: so they reach it
    as far as z and z' are alike. Features behind ReLU and pooling are never negative, so that all are alike; whitened
    ones are not. This is the metric of rewriting, where C⁻¹k* makes an update specific to k*.

    The regularisation chooses: the larger it is, the more of the likeness of images is left, so that edits reach
    further, other views of the edited image among what they reach, and cost more. Runs once, when a run starts
    from weights, not from a checkpoint, which has its own W₁.

    Args:
        regularisation: Of C; by default 1e-4 of its mean eigenvalue is added to each.
        num_images: Largest number of training images, drawn by seed.
        split: The images' part of the data: unaugmented ``train`` images, or ``val`` images.
        seed: Of the draw.
        cache: Folder for second moments, which are used again for the same network and images; null keeps none.

    Raises:
        UserError: If a number is out of its range; when it runs, if the network has no extra layer, or one that is not
            the identity, which whitening would change.
    """

    def __init__(
        self,
        regularisation: Regularisation | None = None,
        num_images: int = 10_000,
        split: Literal["train", "val"] = "train",
        seed: int = 0,
        cache: str | None = "runs/second_moments",
    ) -> None:
        require_at_least(1, num_images=num_images)
        require_at_least(0, seed=seed)
        self.regularisation = regularisation or Regularisation(epsilon=1e-4)
        self.num_images, self.split, self.seed, self.cache = num_images, split, seed, cache
        self._done = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Whiten, unless a run is resumed."""
        self._whiten(trainer, network_of(pl_module))

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Whiten, unless a checkpoint is tested."""
        self._whiten(trainer, network_of(pl_module))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Whiten, unless a checkpoint is validated."""
        if validates_alone(trainer):
            self._whiten(trainer, network_of(pl_module))

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Whiten, unless a checkpoint predicts: what it predicts stays, but patches are for whitened weights."""
        self._whiten(trainer, network_of(pl_module))

    @torch.no_grad()
    def _whiten(self, trainer: Trainer, network: nn.Module) -> None:
        name, layer = _extra_layer(network)
        if self._done or trainer.ckpt_path is not None:
            return
        if layer.contract.weight.any():
            raise UserError(
                f"the extra layer '{name}' is not the identity any more, and whitening would change what it computes: "
                "leave out WhitenedExtraLayer, or start from weights without an extra layer"
            )
        data = image_data(trainer, "a whitened extra layer")
        dataset = moment_dataset(self.split, data)
        images = MomentImages.of_run(trainer, dataset, self.num_images, None, self.seed, self.cache)
        block = LayerBlock(network, f"{name}.expand")
        memory = make_memory(tuple(block.weight.shape), block.geometry)
        with progress_bars(trainer) as progress:
            task = progress.add_task("second moment of what the extra layer reads", total=len(images.drawn))
            moment = images.second_moment(block, memory, "pixel", lambda number: progress.advance(task, number))
        whitened = InverseMoment(moment, self.regularisation).whiten(layer.expand.weight.T).T
        layer.expand.weight.copy_(trainer.strategy.broadcast(whitened))
        self._done = True


def _extra_layer(network: nn.Module) -> tuple[str, ExtraLayer]:
    for name, module in network.named_modules():
        if isinstance(module, ExtraLayer):
            return name, module
    raise UserError(
        f"{type(network).__name__} has no extra layer to whiten: make the network with editable.models.add_extra_layer"
    )
