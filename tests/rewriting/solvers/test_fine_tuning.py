"""Fine-tuning equals plain gradient descent on a copy of the network, and changes the layers that it says."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torchvision.models import VisionTransformer

from editable.errors import UserError
from editable.models import cifar_resnet
from editable.rewriting.keys.exemplars import Exemplars
from editable.rewriting.keys.problem import RewriteProblem
from editable.rewriting.memory.block import LayerBlock
from editable.rewriting.memory.inverse_moment import InverseMoment
from editable.rewriting.memory.memory import make_memory
from editable.rewriting.solvers.fine_tuning import FineTuning, parameters_from
from tests.rewriting.problems import EXACT, Untouched, conv_problem, random, random_moment

FROM_SECOND = {"second.weight", "bn2.weight", "bn2.bias", "third.weight", "third.bias", "head.weight", "head.bias"}


@pytest.mark.parametrize(("layers", "names"), [("local", {"second.weight"}), ("global", FROM_SECOND)])
def test_equals_gradient_descent_on_a_copy(layers: str, names: set[str]):
    problem = conv_problem()
    with Untouched(problem.block.network):
        result = FineTuning(layers, 0.05, max_steps=6, patience=None)(problem)
    assert result.params.keys() == names
    network = copy.deepcopy(problem.block.network).eval()
    optimizer = torch.optim.SGD([network.get_parameter(name) for name in sorted(names)], 0.05)
    losses = []
    for step in range(7):
        loss = cross_entropy(network(problem.images), problem.labels)
        losses.append(loss.item())
        if step < 6:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    torch.testing.assert_close(result.losses, losses, rtol=1e-8, atol=1e-12)
    for name in names:
        torch.testing.assert_close(result.params[name], network.get_parameter(name).detach(), rtol=1e-8, atol=1e-10)
    with torch.no_grad():
        values = network.bn2(network.second(problem.exemplars.inputs)).relu()
    inside = problem.exemplars.mask[:, None].expand_as(values) == 1
    assert result.loss == pytest.approx((values - problem.targets)[inside].abs().mean().item(), rel=1e-8)
    assert result.num_steps == 6


def test_corrects_the_exemplars():
    problem = conv_problem()
    network = problem.block.network.eval()
    assert (network(problem.images).argmax(1) != problem.labels).any()
    result = FineTuning("global", 0.2, max_steps=200)(problem)
    edited = torch.func.functional_call(network, result.params, (problem.images,))
    assert torch.equal(edited.argmax(1), problem.labels)


class WithSideHead(nn.Module):
    """Has a head behind its first layer whose output nothing reads."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.side, self.last = nn.Linear(4, 5), nn.Linear(5, 2), nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.first(x).tanh()
        self.side(features)
        return self.last(features)


def test_what_the_logits_do_not_depend_on_stays():
    torch.manual_seed(0)
    network = WithSideHead().double()
    block = LayerBlock(network, "first")
    images = random(2, 4, seed=1)
    exemplars = Exemplars(images, images.flip(0), torch.ones(2, 1, 1, dtype=torch.float64))
    memory, inverse = make_memory(block.weight.shape, block.geometry), InverseMoment(random_moment(4), EXACT)
    problem = RewriteProblem(block, memory, exemplars, inverse, images=images, labels=torch.tensor([0, 2]))
    own = dict(network.named_parameters())
    params = FineTuning("global", 0.1, max_steps=3)(problem).params
    assert params.keys() == own.keys()
    assert {name for name in own if torch.equal(params[name], own[name])} == {"side.weight", "side.bias"}


def test_local_changes_only_its_layer_and_no_statistics():
    problem = conv_problem()
    with Untouched(problem.block.network):
        result = FineTuning("local", 0.5, max_steps=5)(problem)
    assert result.params.keys() == {"second.weight"}
    assert result.norm > 0
    assert not result.params["second.weight"].requires_grad


def test_the_best_is_returned():
    problem = conv_problem()
    result = FineTuning("global", 20.0, max_steps=10, patience=None)(problem)
    assert result.losses[-1] > min(result.losses)
    network = problem.block.network.eval()
    logits = torch.func.functional_call(network, result.params, (problem.images,))
    assert cross_entropy(logits, problem.labels).item() == pytest.approx(min(result.losses), rel=1e-8)


def test_parameters_from_a_layer_on_in_a_residual_network():
    network = cifar_resnet(width=4, layers=(1, 1, 1, 1))
    names = [name for name, _ in network.named_parameters()]
    image = torch.randn(1, 3, 32, 32)
    assert parameters_from(network, "conv1", image) == names
    assert parameters_from(network, "fc", image) == ["fc.weight", "fc.bias"]
    chosen = parameters_from(network, "layer3.0.conv2", image)
    assert set(chosen) >= {"layer3.0.conv2.weight", "layer3.0.bn2.bias", "layer4.0.conv1.weight", "fc.bias"}
    assert not any(name.startswith(("conv1", "bn1", "layer1", "layer2", "layer3.0.conv1")) for name in chosen)


class OutOfOrder(nn.Module):
    """Calls its layers in another order than it names them."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(2, 2)
        self.unused = nn.Linear(2, 2)
        self.first = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.first(x).relu())


def test_parameters_from_a_layer_on_follow_the_calls():
    network, x = OutOfOrder(), torch.randn(1, 2)
    assert parameters_from(network, "last", x) == ["last.weight", "last.bias"]
    assert set(parameters_from(network, "first", x)) == {"first.weight", "first.bias", "last.weight", "last.bias"}


def test_parameters_that_a_parent_uses_without_a_call():
    network = VisionTransformer(32, 16, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=3)
    chosen = parameters_from(network, "encoder.layers.encoder_layer_0.mlp.0", torch.randn(1, 3, 32, 32))
    assert "encoder.layers.encoder_layer_1.self_attention.out_proj.weight" in chosen
    assert "encoder.layers.encoder_layer_0.self_attention.out_proj.weight" not in chosen
    assert "class_token" not in chosen


@pytest.mark.parametrize("missing", ["images", "labels"])
def test_without_images_or_labels(missing: str):
    with pytest.raises(UserError, match=f"fine-tuning needs .* but the problem has no {missing}"):
        FineTuning()(conv_problem(**{missing: None}))


def test_labels_that_do_not_fit():
    with pytest.raises(UserError, match=r"one label for each of 3 images, got \[2\]"):
        FineTuning()(conv_problem(labels=torch.tensor([0, 1])))
    with pytest.raises(UserError, match=r"labels must be classes from 0 to 2, got \[0, 3, 1\]"):
        FineTuning()(conv_problem(labels=torch.tensor([0, 3, 1])))


def test_images_that_are_not_finite():
    images = random(3, 3, 6, 6, seed=1)
    images[0, 0, 0, 0] = float("nan")
    with pytest.raises(UserError, match="the exemplars' images are not finite"):
        FineTuning()(conv_problem(images=images))


def test_layers_out_of_range():
    with pytest.raises(UserError, match="layers must be 'local' or 'global', got 'all'"):
        FineTuning("all")
