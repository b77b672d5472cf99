"""Networks, their weights, and dividing a network at its first editable parameter.

``networks`` has them by name, ``added`` what is put into one, ``split`` divides them, ``machine`` is about processors
and GPUs; ``selection.py`` chooses parameters by name patterns, ``weights.py`` loads them as data and writes them,
``finite.py`` refuses NaN, ``fingerprint.py`` tells them apart. Nothing here knows edits or data. Start with
``split/split_network.py``.
"""

from editable.models.added.codebook import Codebook
from editable.models.added.codebook_network import CodebookNetwork, add_codebook
from editable.models.added.extra_layer import ExtraLayer, add_extra_layer
from editable.models.added.grown_network import GrownNetwork, grow_classes
from editable.models.added.neuron_layer import Neurons, add_neurons
from editable.models.added.new_logit import LogitKind, Pooling
from editable.models.class_names import class_names_of
from editable.models.fingerprint import fingerprint
from editable.models.finite import check_weights
from editable.models.logits import logits_of
from editable.models.machine.memory_format import lay_out_channels_last
from editable.models.networks.densenet import cifar_densenet, cifar_densenet169
from editable.models.networks.efficientnet_lite import efficientnet_lite0
from editable.models.networks.feature_network import feature_network
from editable.models.networks.generator import Discriminator, Generator
from editable.models.networks.hugging_face_classifier import hugging_face_classifier
from editable.models.networks.latents import LatentSampler, NormalLatents, default_latents, generate
from editable.models.networks.resnet import cifar_resnet, cifar_resnet18
from editable.models.networks.torchvision_model import torchvision_model
from editable.models.networks.vision_transformer import cifar_vit
from editable.models.networks.whitened_convnet import cifar_whitened_convnet, whiten_convolution
from editable.models.selection import select_parameters
from editable.models.split.linear_tail import LinearTail, linear_tail
from editable.models.split.modes import evaluation_mode
from editable.models.split.scoring_form import ScoringForm, ScoringSettings, Weights
from editable.models.split.split_network import Features, SplitNetwork
from editable.models.weights import check_fit, load_weights, read_checkpoint, write_weights

__all__ = [
    "Codebook",
    "CodebookNetwork",
    "Discriminator",
    "ExtraLayer",
    "Features",
    "Generator",
    "GrownNetwork",
    "LatentSampler",
    "LinearTail",
    "LogitKind",
    "Neurons",
    "NormalLatents",
    "Pooling",
    "ScoringForm",
    "ScoringSettings",
    "SplitNetwork",
    "Weights",
    "add_codebook",
    "add_extra_layer",
    "add_neurons",
    "check_fit",
    "check_weights",
    "cifar_densenet",
    "cifar_densenet169",
    "cifar_resnet",
    "cifar_resnet18",
    "cifar_vit",
    "cifar_whitened_convnet",
    "class_names_of",
    "default_latents",
    "efficientnet_lite0",
    "evaluation_mode",
    "feature_network",
    "fingerprint",
    "generate",
    "grow_classes",
    "hugging_face_classifier",
    "lay_out_channels_last",
    "linear_tail",
    "load_weights",
    "logits_of",
    "read_checkpoint",
    "select_parameters",
    "torchvision_model",
    "whiten_convolution",
    "write_weights",
]
