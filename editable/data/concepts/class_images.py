"""Images of one class in a folder of their own, with or without masks of where the class is."""

from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms import v2

from editable.data.concepts.masked_image import MaskedImage
from editable.data.concepts.masks import read_masks
from editable.data.images.frame import Frame
from editable.data.images.listing import list_images
from editable.data.images.reader import read_image
from editable.errors import UserError, require_at_least, require_seed

__all__ = ["ClassImages"]


class ClassImages:
    """Images of one class, such as one that a network does not know yet.

    Args:
        folder: a folder of images; those in sub-folders belong to it.
        masks: where the class is in them: whatever :func:`~editable.data.read_masks` reads, with the folder as
            its root; only images that have a mask are used. ``None`` uses all, each of them whole.

    Raises:
        UserError: the folder does not exist or holds no image, or the masks do not do.
    """

    def __init__(self, folder: str, masks: str | None = None) -> None:
        root = Path(folder).expanduser()
        if not root.is_dir():
            raise UserError(f"The folder {root} does not exist: it must hold images of the class.")
        self._masked: list[MaskedImage] | None = None
        if masks is None:
            listed = list_images(root)
            listed.say_left_out(root)
            self.paths = sorted(listed.paths)
        else:
            self._masked = read_masks(masks, root).images
            self.paths = [image.path for image in self._masked]
        if not self.paths:
            raise UserError(f"The folder {root} holds no image: it must hold images of the class.")
        self.names = [path.relative_to(root).as_posix() for path in self.paths]

    def __len__(self) -> int:
        return len(self.paths)

    def draw(self, count: int | None, seed: int) -> list[int]:
        """Choose some of the images at random.

        Args:
            count: how many; ``None``: all, in their order.
            seed: seed of the choice; fewer with the same seed are a part of more.

        Returns:
            Their positions.

        Raises:
            UserError: there are fewer.
        """
        if count is None:
            return list(range(len(self)))
        require_at_least(1, count=count)
        require_seed(seed=seed)
        if count > len(self):
            raise UserError(f"{count} images of the class are wanted, but there are only {len(self)}.")
        return torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))[:count].tolist()

    def read(self, positions: list[int], frame: Frame) -> tuple[Tensor, Tensor]:
        """Read images and masks, brought to a frame.

        Args:
            positions: which of the images.
            frame: which pixels of the stored images are wanted.

        Returns:
            The images, float32 ``[n, 3, H, W]`` in [0, 1], not normalised, and the masks, float32 ``[n, H, W]`` in
            [0, 1], one everywhere where none were given.

        Raises:
            UserError: a file cannot be read, a mask does not fit its image, or the images have different sizes.
        """
        images, masks = zip(*(self._read(position, frame) for position in positions), strict=True)
        for position, image in zip(positions, images, strict=True):
            if image.shape != images[0].shape:
                raise UserError(
                    f"The image {self.paths[position]} is {image.shape[1]}×{image.shape[2]} pixels (height × width) "
                    f"where the first is {images[0].shape[1]}×{images[0].shape[2]}: set image_size to bring all to one "
                    "size."
                )
        return torch.stack(images), torch.stack(masks)

    def _read(self, position: int, frame: Frame) -> tuple[Tensor, Tensor]:
        if self._masked is not None:
            return self._masked[position].read(frame)
        stored = frame.transform(read_image(self.paths[position]))
        image = v2.functional.to_dtype(stored, torch.float32, scale=True)
        return image, torch.ones(image.shape[-2:])
