"""A classifier that returns its features."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from editable.errors import UserError
from editable.models import cifar_resnet, feature_network


def test_features_are_what_the_classifier_reads(tmp_path: Path):
    torch.manual_seed(0)
    classifier = cifar_resnet(num_classes=5, width=2, layers=(1, 1, 1, 1)).eval()
    save_file(classifier.state_dict(), tmp_path / "weights.safetensors")
    other = cifar_resnet(num_classes=5, width=2, layers=(1, 1, 1, 1))
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
    features = feature_network(other, str(tmp_path / "weights.safetensors"), mean=mean, std=std).eval()
    pixels = torch.rand(3, 3, 8, 8)  # on a scale of 0 to 1
    normalised = torch.stack([(pixels[:, i] - mean[i]) / std[i] for i in range(3)], dim=1)
    found = features(2 * pixels - 1)
    assert found.shape == (3, 16)
    torch.testing.assert_close(classifier.fc(found), classifier(normalised))


def test_an_unknown_classifier():
    with pytest.raises(UserError, match=r"Sequential has no layer 'fc' .* linear layers are 1$"):
        feature_network(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)))
