"""Where a generator's latent vectors come from: samplers whose vectors have numbers."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from editable.errors import UserError, require_at_least, require_seed, require_width
from editable.models.split.modes import evaluation_mode

__all__ = ["LatentSampler", "NormalLatents", "default_latents", "generate"]


class LatentSampler(ABC):
    """Draws latent vectors; a generator of one's own may need a subclass of one's own.

    What is drawn must depend on the seed alone, and the first n vectors must be the same however many are drawn: so a
    seed and a number name a vector, and with it a generated image.
    """

    @abstractmethod
    def __call__(self, num: int, seed: int) -> Tensor:
        """Return the first vectors of a seed, on the CPU, [num, …].

        Args:
            num: Number of vectors.
            seed: Names the sequence.
        """


class NormalLatents(LatentSampler):
    """Vectors of independent standard normal numbers.

    Args:
        latent_size: Length of a vector.

    Raises:
        UserError: If the length is below 1.

    Example:
        >>> latents = NormalLatents(64)
        >>> torch.equal(latents(3, seed=0), latents(100, seed=0)[:3])
        True
    """

    def __init__(self, latent_size: int) -> None:
        require_width(latent_size=latent_size)
        self.latent_size = latent_size

    def __call__(self, num: int, seed: int) -> Tensor:
        """Return the first vectors of a seed, float32 [num, latent_size].

        Args:
            num: Number of vectors.
            seed: Names the sequence.
        """
        require_at_least(1, num=num)
        require_seed(seed=seed)
        generator = torch.Generator().manual_seed(seed)
        # One by one: numbers that are drawn at once depend on how many there are.
        return torch.stack([torch.randn(self.latent_size, generator=generator) for _ in range(num)])


def default_latents(network: nn.Module) -> NormalLatents:
    """Return standard normal latent vectors of the length that a generator says it takes.

    Raises:
        UserError: If it has no attribute ``latent_size``.
    """
    size = getattr(network, "latent_size", None)
    if not isinstance(size, int):
        raise UserError(
            f"{type(network).__name__} has no attribute latent_size: say where its latent vectors come from, such as "
            "editable.models.NormalLatents with a latent_size"
        )
    return NormalLatents(size)


@torch.no_grad()
def generate(network: nn.Module, latents: Tensor) -> Tensor:
    """Return a generator's images for latent vectors, in evaluation mode.

    Args:
        network: The generator.
        latents: [N, …]; they are brought to the network's device and type.

    Returns:
        [N, C, H, W].

    Raises:
        UserError: If the generator cannot take such vectors, or does not return one image for each.
    """
    parameter = next(network.parameters(), latents)
    size = getattr(network, "latent_size", None)
    shape = list(latents.shape[1:])
    if isinstance(size, int) and shape != [size]:
        raise UserError(f"{type(network).__name__} takes latent vectors of length {size}, got shape {shape} for each")
    try:
        with evaluation_mode(network):
            images = network(latents.to(parameter))
    except (RuntimeError, TypeError) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
        raise UserError(f"{type(network).__name__} cannot take latent vectors of shape {shape} ({reason})") from error
    if not isinstance(images, Tensor) or images.ndim != 4 or len(images) != len(latents):
        returned = list(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise UserError(
            f"{type(network).__name__} must return images [{len(latents)}, C, H, W] for as many latent vectors, "
            f"got {returned}"
        )
    return images
