"""What a classifier's last linear layer reads: feature vectors of images, or of a part of an image."""

from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from editable.errors import UserError
from editable.models import evaluation_mode, logits_of
from editable.rewriting.keys.context_keys import resize_mask

__all__ = ["FinalFeatures"]


class FinalFeatures:
    """Runs a classifier and gives, beside the logits, the vectors φ that its last linear layer makes them of.

    Where φ is the mean of a feature map over its positions (global average pooling), the vector of a part of an image
    is the mean over that part. Otherwise there is only the vector of the whole image.

    Everything runs in evaluation mode; the network is never written to.

    Args:
        network: The classifier, from images [N, C, H, W] to logits [N, K].
        whole: A network that the classifier is a part of, such as one grown from it; it is run in its place.
    """

    def __init__(self, network: nn.Module, whole: nn.Module | None = None) -> None:
        self.network = network
        self.whole = network if whole is None else whole

    @torch.no_grad()
    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits of images, those of the whole network, and their feature vectors [N, d].

        Raises:
            UserError: If the logits do not come from a linear layer.
        """
        run = self._run(images)
        return run.logits, run.features

    @torch.no_grad()
    def of_part(self, images: Tensor, masks: Tensor | None = None) -> Tensor:
        """Return the feature vectors of parts of images.

        Args:
            images: [n, C, H, W].
            masks: The parts, float in [0, 1], [n, H, W] at any resolution; by default all of each image. Of no effect
                where feature vectors are not means over a map.

        Returns:
            [n, d].

        Raises:
            UserError: If the logits do not come from a linear layer, or a mask is none or empty.
        """
        run = self._run(images)
        if masks is None or run.maps is None:
            return run.features
        weights = resize_mask(masks.to(run.maps), (run.maps.shape[-2], run.maps.shape[-1]))
        sums = weights.sum((1, 2))
        if not (sums > 0).all():
            raise UserError(f"the mask of image {int((sums == 0).nonzero()[0])} is empty: it must have a part in it")
        return torch.einsum("ndhw,nhw->nd", run.maps, weights) / sums[:, None]

    def _run(self, images: Tensor) -> "_Run":
        calls: list[tuple[Tensor, Tensor]] = []
        maps: list[Tensor] = []

        def see(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            if isinstance(module, nn.Linear):
                calls.append((args[0], output))
            elif not calls and isinstance(output, Tensor) and output.ndim == 4 and output[0, 0].numel() > 1:
                maps[:] = [output]

        own: list[Tensor] = []
        with evaluation_mode(self.whole), ExitStack() as stack:
            for module in self.network.modules():
                stack.callback(module.register_forward_hook(see).remove)
            stack.callback(
                self.network.register_forward_hook(lambda _, args, output: own.append(logits_of(output))).remove
            )
            logits = logits_of(self.whole(images))
        if not calls or calls[-1][1].shape != own[0].shape or not torch.equal(calls[-1][1], own[0]):
            raise UserError(
                f"the last layer of {type(self.network).__name__} is not linear, so that there is no vector of weights "
                "of a new class to be chosen: leave the baselines out"
            )
        features = calls[-1][0]
        pooled = [found for found in maps if found.shape[:2] == features.shape]
        is_mean = bool(pooled) and torch.allclose(pooled[0].mean((2, 3)), features, rtol=1e-3, atol=1e-5)
        return _Run(logits, features, pooled[0] if is_mean else None)


class _Run(NamedTuple):
    """Of one batch: logits, what the classifier's are made of [N, d], and the map [N, d, h, w] whose mean that is."""

    logits: Tensor
    features: Tensor
    maps: Tensor | None
