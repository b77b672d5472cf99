"""A small vision transformer for small images."""

from torchvision.models import VisionTransformer

from editable.errors import UserError, require_width

__all__ = ["cifar_vit"]


def cifar_vit(
    num_classes: int = 10,
    width: int = 128,
    num_layers: int = 6,
    num_heads: int = 4,
    image_size: int = 32,
    patch_size: int = 4,
) -> VisionTransformer:
    """Build torchvision's vision transformer (Dosovitskiy et al., ICLR 2021) for images of some tens of pixels.

    Its blocks are called ``encoder_layer_0``, ``encoder_layer_1``, …, its classifier ``heads``, as in those for
    ImageNet. With the defaults it has 0.8 million parameters and 64 patches of an image of CIFAR-10.

    Args:
        num_classes: Number of classes.
        width: Length of the vector of a patch; that inside a block's perceptron is twice as long.
        num_layers: Number of blocks.
        num_heads: Number of attention heads, a divisor of the width.
        image_size: Height and width of an image, in pixels.
        patch_size: Of a patch, a divisor of the image's.

    Returns:
        The network, of random weights, from images [N, 3, image_size, image_size] to logits [N, num_classes].

    Raises:
        UserError: If a number is out of its range, or does not divide what it must.
    """
    require_width(
        num_classes=num_classes,
        width=width,
        num_layers=num_layers,
        num_heads=num_heads,
        image_size=image_size,
        patch_size=patch_size,
    )
    for name, part, whole in (("num_heads", num_heads, width), ("patch_size", patch_size, image_size)):
        if whole % part:
            raise UserError(f"{name} must divide {whole}, got {part}")
    return VisionTransformer(
        image_size, patch_size, num_layers, num_heads, width, mlp_dim=2 * width, num_classes=num_classes
    )
