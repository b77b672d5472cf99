"""How far apart two images look: LPIPS where its weights can be had, else a stand-in that is called so."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

from editable.errors import UserError
from editable.models import evaluation_mode

__all__ = ["Perceptual", "PerceptualDistance", "PerceptualDistanceStandin", "load_lpips", "perceptual_distance"]

Perceptual: TypeAlias = Literal["auto", "alex", "vgg", "squeeze", "standin"]
"""LPIPS with one of its three networks, the stand-in, or the first with AlexNet if it can be had, else the latter."""


class PerceptualDistance(NamedTuple):
    """A distance of images as they look.

    Attributes:
        name: ``lpips`` or ``standin``.
        description: What a reader is told about it.
        distance: From images in [0, 1], [n, C, H, W] each, to their distances [n].
    """

    name: str
    description: str
    distance: Callable[[Tensor, Tensor], Tensor]


def perceptual_distance(
    kind: Perceptual,
    network: nn.Module,
    image_shape: tuple[int, int, int],
    normalise: Callable[[Tensor], Tensor],
    layers: Sequence[str] | None = None,
) -> PerceptualDistance:
    """Return LPIPS, or the stand-in.

    Args:
        kind: Which.
        network: The network under study, for the stand-in.
        image_shape: (C, H, W).
        normalise: From images in [0, 1] to what that network takes.
        layers: Of the stand-in.

    Raises:
        UserError: If it is of no such kind, or LPIPS is asked for by its network and cannot be had.
    """
    if kind not in get_args(Perceptual):
        raise UserError(f"the perceptual distance must be one of {', '.join(get_args(Perceptual))}, got {kind!r}")
    if kind != "standin":
        try:
            return load_lpips("alex" if kind == "auto" else kind, image_shape)
        except UserError as error:
            if kind != "auto":
                raise
            warnings.warn(f"{error}: a stand-in takes its place", UserWarning, stacklevel=2)
    standin = PerceptualDistanceStandin(network, image_shape, normalise, layers)
    return PerceptualDistance(
        "standin",
        f"a stand-in for LPIPS, the same formula on features of the network under study ({', '.join(standin.layers)})",
        standin,
    )


def load_lpips(net: Literal["alex", "vgg", "squeeze"], image_shape: tuple[int, int, int]) -> PerceptualDistance:
    """Return torchmetrics' LPIPS, whose network's weights torchvision downloads once (Zhang et al. 2018).

    Args:
        net: Its network; ``squeeze`` is the smallest, 5 MB.
        image_shape: (C, H, W); grey images are taken for coloured ones.

    Raises:
        UserError: If the weights cannot be had, or images of this size are too small for the network.
    """
    try:
        metric: Any = LearnedPerceptualImagePatchSimilarity(net_type=net, normalize=True)
    except (OSError, RuntimeError) as error:  # no connection; a broken download
        raise UserError(f"the weights of LPIPS with {net} cannot be had ({error})") from error

    def distance(first: Tensor, second: Tensor) -> Tensor:
        lpips = metric.net.to(first.device)
        return lpips(_coloured(first), _coloured(second), normalize=True).flatten()

    try:
        with torch.no_grad():
            distance(torch.zeros(1, *image_shape), torch.zeros(1, *image_shape))
    except RuntimeError as error:
        size = " × ".join(map(str, image_shape))
        raise UserError(f"images {size} are too small for LPIPS with {net}, or of another kind ({error})") from error
    return PerceptualDistance("lpips", f"LPIPS ({net})", distance)


class PerceptualDistanceStandin:
    r"""A stand-in for LPIPS: its formula with unit weights, on features of the network under study.

    .. math:: d(x, y) = \frac1L \sum_l \frac1{H_l W_l} \sum_p \lVert \hat a^l_p(x) - \hat a^l_p(y) \rVert^2

    with â the features at a position of layer l, brought to unit length over channels (Zhang et al. 2018, eq. 1, where
    channels have weights learnt from people's judgements). It is not LPIPS, and its figures are not comparable with it.

    Args:
        network: The network, in evaluation mode for each call; it stays as it is.
        image_shape: (C, H, W).
        normalise: From images in [0, 1] to what the network takes.
        layers: Names of modules whose outputs are maps [N, c, h, w]; by default, of the network's own children, the
            last with maps of each size above 1×1.

    Raises:
        UserError: If a layer is unknown or puts out no map, or no layer does.
    """

    def __init__(
        self,
        network: nn.Module,
        image_shape: tuple[int, int, int],
        normalise: Callable[[Tensor], Tensor] = lambda images: images,
        layers: Sequence[str] | None = None,
    ) -> None:
        self.network, self.normalise = network, normalise
        modules = dict(network.named_modules())
        unknown = [name for name in layers or () if name not in modules]
        if unknown:
            near = ", ".join(name for name, _ in network.named_children())
            raise UserError(f"{type(network).__name__} has no layer '{unknown[0]}': its children are {near or 'none'}")
        candidates = list(layers) if layers is not None else _children(network)
        parameter = next(network.parameters(), torch.zeros(1))
        found = self._features(torch.full((1, *image_shape), 0.5).to(parameter), candidates)
        maps = {name: features.shape[-2:] for name, features in found.items() if features.ndim == 4}
        if layers is not None:
            flat = [name for name in layers if name not in maps]
            if flat:
                raise UserError(f"'{flat[0]}' puts out no map [N, c, h, w]: name a layer that does")
        else:
            sizes = {size: name for name, size in maps.items() if max(size) > 1}
            candidates = [name for name in maps if name in sizes.values()]
        if not candidates:
            raise UserError(f"none of {type(network).__name__}'s children puts out a map: name layers that do")
        self.layers = candidates

    def __call__(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the distances [n] of images in [0, 1], [n, C, H, W] each."""
        pairs = zip(*(self._features(images, self.layers).values() for images in (first, second)), strict=True)
        distances = [
            (functional.normalize(a) - functional.normalize(b)).square().sum(dim=1).mean((1, 2)) for a, b in pairs
        ]
        return torch.stack(distances).mean(dim=0)

    def _features(self, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}

        def keep(name: str) -> Callable[[nn.Module, Any, Any], None]:
            def hook(module: nn.Module, args: Any, output: Any) -> None:
                if isinstance(output, Tensor):
                    # A ReLU in place behind it would change what is kept.
                    found[name] = output.clone()

            return hook

        handles = [self.network.get_submodule(name).register_forward_hook(keep(name)) for name in layers]
        try:
            with evaluation_mode(self.network):
                self.network(self.normalise(images))
        finally:
            for handle in handles:
                handle.remove()
        return {name: found[name] for name in layers if name in found}


def _children(network: nn.Module) -> list[str]:
    """Return names of the network's children, those in lists in place of the lists."""
    names = []
    for name, child in network.named_children():
        if isinstance(child, nn.ModuleList):
            names += [f"{name}.{inner}" for inner, _ in child.named_children()]
        else:
            names.append(name)
    return names


def _coloured(images: Tensor) -> Tensor:
    return images.float().expand(-1, 3, -1, -1) if images.shape[1] == 1 else images.float()
