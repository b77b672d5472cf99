"""The three baseline vectors of a new class, and the features of a part of an image that they are made of."""

import pytest
import torch
from torch import nn

from editable.errors import UserError
from editable.models import cifar_resnet, grow_classes
from editable.rewriting.new_class.class_vectors import class_vector, compositional_vector, random_vector
from editable.rewriting.new_class.final_features import FinalFeatures


def test_random_vectors_are_standard_normal_by_seed():
    vector = random_vector(20_000, 3)
    assert torch.equal(vector, random_vector(20_000, 3))
    assert not torch.equal(vector, random_vector(20_000, 4))
    assert vector.mean().item() == pytest.approx(0, abs=0.03)
    assert vector.std().item() == pytest.approx(1, abs=0.03)


def test_class_vector_is_the_mean_and_compositional_vector_the_sum_of_unit_length():
    features = torch.tensor([[3.0, 0.0], [1.0, 2.0]], dtype=torch.float64)
    assert class_vector(features).tolist() == pytest.approx([4 / 20**0.5, 2 / 20**0.5])
    assert compositional_vector(features).tolist() == pytest.approx([4 / 20**0.5, 2 / 20**0.5])
    assert class_vector(features[:1]).tolist() == [1, 0]


@pytest.mark.parametrize(("make", "what"), [(class_vector, "image"), (compositional_vector, "part")])
def test_vectors_that_do_not_do(make, what):
    with pytest.raises(UserError, match=f"at least one {what} is needed"):
        make(torch.zeros(0, 4))
    with pytest.raises(UserError, match="is zero, and has no direction"):
        make(torch.zeros(2, 4))
    with pytest.raises(UserError, match=f"the feature vector of {what} 1 is not finite"):
        make(torch.tensor([[1.0, 2.0], [float("nan"), 0.0]]))


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return cifar_resnet(3, width=4, layers=(1, 1, 1, 1)).double().train()


def test_features_are_what_the_last_layer_reads(network):
    images = torch.randn(4, 3, 16, 16, dtype=torch.float64)
    logits, features = FinalFeatures(network)(images)
    torch.testing.assert_close(features @ network.fc.weight.T + network.fc.bias, logits)
    assert network.training
    network.eval()
    assert torch.equal(logits, network(images))
    grown = grow_classes(network, "layer4.0.conv1").double()
    of_whole, same = FinalFeatures(network, grown)(images)
    assert torch.equal(of_whole, grown(images))
    assert torch.equal(same, features)


def test_features_of_a_part_are_the_mean_over_it(network):
    network.eval()
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    masks = torch.zeros(2, 16, 16, dtype=torch.float64)
    masks[0, :8] = 1  # the upper row of a 2×2 map
    masks[1, 8:, 8:] = 0.3  # one cell of it, however faint
    x = network.relu(network.bn1(network.conv1(images)))
    maps = network.layer4(network.layer3(network.layer2(network.layer1(x))))
    found = FinalFeatures(network).of_part(images, masks)
    torch.testing.assert_close(found[0], maps[0, :, 0].mean(1))
    torch.testing.assert_close(found[1], maps[1, :, 1, 1])
    whole = FinalFeatures(network)(images)[1]
    torch.testing.assert_close(FinalFeatures(network).of_part(images), whole)
    torch.testing.assert_close(FinalFeatures(network).of_part(images, torch.ones(2, 16, 16)), whole)
    with pytest.raises(UserError, match="the mask of image 1 is empty"):
        FinalFeatures(network).of_part(images, masks * torch.tensor([1.0, 0.0])[:, None, None])


def test_a_head_that_flattens_its_map_has_features_of_whole_images_only():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    images, masks = torch.randn(2, 3, 6, 6), torch.zeros(2, 6, 6)
    assert torch.equal(FinalFeatures(network).of_part(images, masks), FinalFeatures(network)(images)[1])


def test_a_network_that_does_not_end_in_a_linear_layer():
    ends_in_convolution = nn.Sequential(nn.Conv2d(3, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    ends_in_scaling = nn.Sequential(nn.Flatten(), nn.Linear(12, 3), nn.Softmax(dim=1))
    for network in (ends_in_convolution, ends_in_scaling):
        with pytest.raises(UserError, match=r"is not linear.*leave the baselines out"):
            FinalFeatures(network)(torch.randn(2, 3, 2, 2))
