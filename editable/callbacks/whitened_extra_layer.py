"""An extra layer whose keys are decorrelated before a run, so that an edit of one image hardly reaches others."""

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from editable.callbacks.run.context import network_of, require_float32
from editable.callbacks.run.edit_loop import progress_bars, validates_alone
from editable.callbacks.site.moment import MomentSettings
from editable.errors import UserError
from editable.models import ExtraLayer
from editable.rewriting import InverseMoment, LayerBlock, make_memory

__all__ = ["WhitenedExtraLayer"]


MOMENT = MomentSettings(num_images=10_000, cache="runs/second_moments")


class WhitenedExtraLayer(Callback):
    """Whitens what the extra layer reads: W₁ ← W₁ C^{-1/2}, with the second moment C = E[h hᵀ] over training images.

    The layer, h + W₂·ELU(W₁h + b₁) + b₂, stays the identity, as W₂ = 0. But edits of W₂ move the layer's output at
    another image by Σⱼ sign(zⱼ) z'ⱼ, z = ELU(W₁h + b₁), as far as RMSProp's steps are those of signs: so they reach it
    as far as z and z' are alike. Features behind ReLU and pooling are never negative, so that all are alike; whitened
    ones are not. This is the metric of rewriting, where C⁻¹k* makes an update specific to k*.

    Its regularisation chooses: the larger it is, the more of the likeness of images is left, so that edits reach
    further, other views of the edited image among what they reach, and cost more. Runs once, when a run starts
    from weights, not from a checkpoint, which has its own W₁.

    Args:
        moment: The images for C, and how it is regularised.

    Raises:
        UserError: If a number is out of its range; when it runs, if the network has no extra layer, or one that is not
            the identity, which whitening would change.
    """

    def __init__(
        self,
        moment: MomentSettings = MOMENT,
    ) -> None:
        self.moment = moment
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
        require_float32(trainer, type(self).__name__)
        images = self.moment.images(trainer)
        block = LayerBlock(network, f"{name}.expand")
        memory = make_memory(tuple(block.weight.shape), block.geometry)
        with progress_bars(trainer) as progress:
            task = progress.add_task("second moment of what the extra layer reads", total=len(images.drawn))
            moment = images.second_moment(block, memory, "pixel", lambda number: progress.advance(task, number))
        whitened = InverseMoment(moment, self.moment.regularised).whiten(layer.expand.weight.T).T
        layer.expand.weight.copy_(trainer.strategy.broadcast(whitened))
        self._done = True


def _extra_layer(network: nn.Module) -> tuple[str, ExtraLayer]:
    for name, module in network.named_modules():
        if isinstance(module, ExtraLayer):
            return name, module
    raise UserError(
        f"{type(network).__name__} has no extra layer to whiten: make the network with editable.models.add_extra_layer"
    )
