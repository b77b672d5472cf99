"""Backbones, their weights, and splitting a network at its first editable parameter."""

from editable.models.densenet import cifar_densenet, cifar_densenet169
from editable.models.efficientnet_lite import efficientnet_lite0
from editable.models.extra_layer import ExtraLayer, add_extra_layer
from editable.models.feature_network import feature_network
from editable.models.fingerprint import fingerprint
from editable.models.generator import Discriminator, Generator
from editable.models.grown_network import GrownNetwork, Pooling, grow_classes
from editable.models.latents import LatentSampler, NormalLatents, default_latents, generate
from editable.models.resnet import cifar_resnet, cifar_resnet18
from editable.models.scoring_form import ScoringForm, ScoringSettings, Weights
from editable.models.selection import select_parameters
from editable.models.split import Features, SplitNetwork, evaluation_mode
from editable.models.torchvision_model import torchvision_model
from editable.models.weights import check_fit, load_weights, read_checkpoint

__all__ = [
    "Discriminator",
    "ExtraLayer",
    "Features",
    "Generator",
    "GrownNetwork",
    "LatentSampler",
    "NormalLatents",
    "Pooling",
    "ScoringForm",
    "ScoringSettings",
    "SplitNetwork",
    "Weights",
    "add_extra_layer",
    "check_fit",
    "cifar_densenet",
    "cifar_densenet169",
    "cifar_resnet",
    "cifar_resnet18",
    "default_latents",
    "efficientnet_lite0",
    "evaluation_mode",
    "feature_network",
    "fingerprint",
    "generate",
    "grow_classes",
    "load_weights",
    "read_checkpoint",
    "select_parameters",
    "torchvision_model",
]
