"""Images changed in ways that are no part of a correction: by which it is judged whether it holds for more."""

from io import BytesIO

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional

from editable.data.modules.image_data_module import EvaluationImages
from editable.errors import UserError, require_seed

__all__ = ["CHANGES", "ChangedViews"]

CHANGES = ("brightness", "blur", "noise", "rotation", "jpeg")
"""Changes of an image that are no part of any correction, in the order of the views."""

BRIGHTNESS, DEGREES, NOISE, JPEG_QUALITY = 1.3, 10.0, 0.04, 50
BLUR = 0.03  # standard deviation, in widths of the image: a pixel of 32


class ChangedViews(Dataset[Tensor]):
    """Five changes of each image of a data set; an item is ``[5, C, H, W]``, as the network gets them.

    In this order: brightness × 1.3, a Gaussian blur of 3 % of the width, Gaussian noise of 0.04 on a scale of 0 to 1, a
    rotation by ±10° and JPEG of quality 50. Noise and the sense of the rotation depend on the seed and the image's
    position alone. Of ``EvaluationImages``, the stored image is resized, changed and then
    normalised. Of any other data set, what the network gets is changed, and JPEG on its own range of values.

    Args:
        dataset: The data set, items beginning with an image ``[C, H, W]`` as the network gets it.
        seed: Of noise and rotation, ≥ 0.

    Raises:
        UserError: If the seed is out of its range, or the items do not begin with images.
    """

    def __init__(self, dataset: Dataset, seed: int = 0) -> None:
        require_seed(seed=seed)
        shape = list(dataset[0][0].shape)
        if len(shape) != 3:
            raise UserError(f"changed views are made of images [C, H, W], got inputs of shape {shape}")
        self._stored, self._seed = dataset, seed
        self._resize: nn.Module = nn.Identity()
        self._normalise: nn.Module = nn.Identity()
        if isinstance(dataset, EvaluationImages):
            self._stored, self._resize, self._normalise = dataset.images, dataset.resize, dataset.normalise

    def __len__(self) -> int:
        return len(self._stored)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Tensor:
        image = self._resize(torch.as_tensor(self._stored[index][0]))
        image = image.float() / 255 if image.dtype == torch.uint8 else image
        generator = torch.Generator().manual_seed((self._seed * 1_000_003 + index) % 2**63)
        noise = torch.randn(image.shape, generator=generator)
        sense = 1 if torch.rand((), generator=generator) < 0.5 else -1
        low, high = image.amin(), image.amax()
        inside = (0.0, 1.0) if low >= 0 and high <= 1 else (float(low), float(high))
        changed = (
            image * BRIGHTNESS,
            functional.gaussian_blur(image, 2 * [_kernel(image)], 2 * [BLUR * image.shape[-1]]),
            image + (NOISE * (inside[1] - inside[0]) * noise).to(image),
            functional.rotate(image, sense * DEGREES),
            _through_jpeg(image, *inside),
        )
        return self._normalise(torch.stack(changed).clamp(*inside))


def _kernel(image: Tensor) -> int:
    """Return the size of a blur's kernel, odd: three standard deviations to each side, as far as the image goes."""
    side = min(image.shape[-2:])
    return 2 * min(max(1, round(3 * BLUR * image.shape[-1])), (side - 1) // 2) + 1


def _through_jpeg(image: Tensor, low: float, high: float) -> Tensor:
    """Return an image as JPEG leaves it, each channel on its own where they are not one or three."""
    scale = (high - low) or 1.0
    pixels = ((image - low) / scale * 255).round().clamp(0, 255).to(torch.uint8)
    written = torch.cat([_written(part) for part in ([pixels] if len(pixels) == 3 else pixels.split(1))])
    return (written.to(image) / 255) * scale + low


def _written(pixels: Tensor) -> Tensor:
    """Return pixels, uint8 [C, H, W] with C = 1 or 3, written and read again by Pillow."""
    file = BytesIO()
    functional.to_pil_image(pixels).save(file, "JPEG", quality=JPEG_QUALITY)
    with Image.open(file) as image:
        return functional.pil_to_tensor(image)
