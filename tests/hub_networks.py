"""Small networks of many families, of timm and of transformers, with random weights and five classes."""

from collections.abc import Callable
from typing import Any, NamedTuple

import timm
import torch
from torch import Tensor, nn

from editable.models import hugging_face_classifier

__all__ = ["FAMILIES", "Family", "images_of", "network_of"]


class Family(NamedTuple):
    """How a network is made, a layer of it, and the side of the smallest images that it takes."""

    make: Callable[[], nn.Module]
    layer: str
    side: int
    is_traced: bool = True


def _timm(name: str, **settings: Any) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(name, num_classes=5, **settings)


def _hub(kind: str, **settings: Any) -> Callable[[], nn.Module]:
    return lambda: hugging_face_classifier(kind, pretrained=False, num_labels=5, **settings)


TIMM_VIT = {"img_size": 16, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}
HUB_VIT = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 16,
    "patch_size": 8,
}
TIMM_SWIN = {"img_size": 32, "embed_dim": 12, "depths": (1, 1), "num_heads": (1, 2), "window_size": 4}
HUB_SWIN = {"image_size": 32, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4}
HUB_RESNET = {"embedding_size": 8, "hidden_sizes": [8, 8], "depths": [1, 1], "layer_type": "basic"}
FOUR_STAGES = {"hidden_sizes": [8] * 4, "depths": [1] * 4}

FAMILIES = {
    "timm ResNet": Family(_timm("resnet18", channels=[8] * 4), "layer3.1.conv2", 32),
    "timm ConvNeXt": Family(_timm("convnext_atto", depths=[1] * 4, dims=[8] * 4), "stages.2.blocks.0.mlp.fc1", 32),
    "timm ViT": Family(_timm("vit_tiny_patch16_224", **TIMM_VIT), "blocks.1.mlp.fc2", 16),
    "timm DeiT III": Family(_timm("deit3_small_patch16_224", **TIMM_VIT), "blocks.1.mlp.fc2", 16),
    "timm Swin": Family(_timm("swin_tiny_patch4_window7_224", **TIMM_SWIN), "layers.1.blocks.0.mlp.fc2", 32),
    "timm MobileNetV3": Family(_timm("mobilenetv3_small_050"), "conv_head", 32),
    "timm EfficientNet": Family(_timm("test_efficientnet"), "conv_head", 32),
    "timm RegNet": Family(_timm("regnetx_002"), "s3.b1.conv3.conv", 32),
    "timm MobileViT": Family(_timm("mobilevit_xxs"), "final_conv.conv", 32),
    "transformers ResNet": Family(
        _hub("resnet", **HUB_RESNET), "resnet.encoder.stages.1.layers.0.layer.1.convolution", 32
    ),
    "transformers ViT": Family(_hub("vit", **HUB_VIT), "vit.layers.1.mlp.fc2", 16, is_traced=False),
    "transformers DeiT": Family(_hub("deit", **HUB_VIT), "deit.layers.1.mlp.fc2", 16, is_traced=False),
    "transformers BEiT": Family(_hub("beit", **HUB_VIT), "beit.layers.1.mlp.fc2", 16),
    "transformers ConvNeXt": Family(_hub("convnext", **FOUR_STAGES), "convnext.encoder.stages.2.layers.0.pwconv1", 32),
    "transformers Swin": Family(
        _hub("swin", **HUB_SWIN), "swin.encoder.layers.1.blocks.0.mlp.fc2", 32, is_traced=False
    ),
    "transformers PoolFormer": Family(
        _hub("poolformer", **FOUR_STAGES), "poolformer.encoder.block.2.0.output.conv2", 32
    ),
}


def network_of(family: Family, seed: int = 0) -> nn.Module:
    """Make a network whose scales are no longer 0 or 1, as of one that was trained: many begin with branches off."""
    torch.manual_seed(seed)
    network = family.make().eval()
    for name, parameter in network.named_parameters():
        if parameter.ndim == 1 and not name.endswith("bias"):
            nn.init.uniform_(parameter, 0.5, 1.5)
    return network


def images_of(family: Family, number: int = 4) -> Tensor:
    return torch.randn(number, 3, family.side, family.side, generator=torch.Generator().manual_seed(1))
