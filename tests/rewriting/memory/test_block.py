"""The block around a layer: found, run alone, and equal to what the network computes there."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional
from torchvision.models import densenet121, resnet18, vit_b_16

from editable.errors import UserError
from editable.models import cifar_resnet
from editable.rewriting.memory.block import LayerBlock


def randomise_statistics(network: nn.Module) -> nn.Module:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-1, 1)
            module.running_var.uniform_(0.5, 2)
    return network


def recorded(network: nn.Module, name: str, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Input and output of a module in a plain forward pass."""
    seen = []
    module = network.get_submodule(name)
    handle = module.register_forward_hook(lambda _, args, output: seen.append((args[0].clone(), output.clone())))
    with torch.no_grad():
        network(x)
    handle.remove()
    return seen[0]


class Strange(nn.Module):
    """Uses layers in ways that are met in the wild: a subclass that pads by itself, functions, a shared layer."""

    class SelfPadding(nn.Conv2d):
        def forward(self, x):
            return functional.conv2d(functional.pad(x, (0, 1, 0, 1)), self.weight, self.bias, self.stride)

    def __init__(self):
        super().__init__()
        self.padding = self.SelfPadding(3, 4, 2, stride=2)
        self.same = nn.Conv2d(4, 4, (2, 3), padding="same", padding_mode="reflect")
        self.norm = nn.BatchNorm2d(4)
        self.shared = nn.Conv2d(4, 4, 1)
        self.unused = nn.Linear(2, 2)
        self.grouped = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(4, 5)

    def forward(self, x):
        x = torch.relu(self.padding(x))
        x = functional.silu(self.norm(self.drop(self.same(x))), inplace=True)
        x = self.grouped(self.shared(self.shared(x)))
        return self.head(x.mean((2, 3)))


@pytest.fixture
def strange():
    torch.manual_seed(0)
    return randomise_statistics(Strange()).double()


def test_residual_block_of_a_resnet():
    """Behind the second convolution of a block the branch is added before the activation: it stays outside."""
    torch.manual_seed(0)
    network = randomise_statistics(resnet18(num_classes=5)).double().train()
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    first, second = LayerBlock(network, "layer2.0.conv1"), LayerBlock(network, "layer2.0.conv2")
    assert first.stages == ("layer2.0.conv1", "layer2.0.bn1", "layer2.0.relu")
    assert second.stages == ("layer2.0.conv2", "layer2.0.bn2")
    evaluated = copy.deepcopy(network).eval()
    for block, norm in ((first, "layer2.0.bn1"), (second, "layer2.0.bn2")):
        read, output = recorded(evaluated, block.layer, x)
        _, normalised = recorded(evaluated, norm, x)
        assert torch.equal(block.inputs(x), read)
        assert torch.equal(block.outputs(read), output)
        expected = normalised.relu() if block is first else normalised
        assert torch.equal(block.values(read), expected)
    assert network.training
    assert all(module.training for module in network.modules())


def test_only_what_leads_to_the_layer_is_run():
    network = resnet18(num_classes=5)
    calls = []
    for name, module in network.named_modules():
        module.register_forward_hook(lambda *_, name=name: calls.append(name))
    block = LayerBlock(network, "layer2.0.conv1")
    calls.clear()
    block.inputs(torch.randn(1, 3, 32, 32))
    assert "layer1.1.conv2" in calls
    assert not [name for name in calls if name.startswith(("layer2", "layer3", "fc"))]


def test_upstream_state_is_what_the_inputs_depend_on():
    """Changing a tensor changes the layer's inputs if and only if it is among them."""
    torch.manual_seed(0)
    network = randomise_statistics(cifar_resnet(width=2, layers=(1, 1, 1, 1))).double()
    block = LayerBlock(network, "layer2.0.conv2")
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    upstream = set(block.upstream_state)
    with torch.no_grad():
        before = block.inputs(x)
        for name, tensor in network.state_dict().items():
            if name.endswith("num_batches_tracked"):
                continue
            kept = tensor.clone()
            tensor += 0.5
            assert (name in upstream) == (not torch.equal(block.inputs(x), before)), name
            tensor.copy_(kept)


def test_another_weight_is_an_argument_and_differentiable():
    torch.manual_seed(0)
    network = randomise_statistics(cifar_resnet(width=2, layers=(1, 1, 1, 1))).double()
    before = copy.deepcopy(network.state_dict())
    block = LayerBlock(network, "layer3.0.conv1")
    inputs = block.inputs(torch.randn(2, 3, 16, 16, dtype=torch.float64)).detach()
    weight = (block.weight.detach() + 0.1 * torch.randn_like(block.weight)).requires_grad_()
    assert not torch.equal(block.values(inputs, weight), block.values(inputs))
    # Away from the kink of ReLU the derivative is that of the formula relu((conv − μ) γ / √(σ² + ε) + β).
    norm = network.layer3[0].bn1
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    plain = functional.conv2d(inputs, weight, None, 2, 1)
    expected = ((plain - norm.running_mean.view(-1, 1, 1)) * scale.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)).relu()
    torch.testing.assert_close(block.values(inputs, weight), expected)
    (found,) = torch.autograd.grad(block.values(inputs, weight).square().sum(), weight)
    (wanted,) = torch.autograd.grad(expected.square().sum(), weight)
    torch.testing.assert_close(found, wanted)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_subclass_that_pads_by_itself(strange):
    x = torch.randn(2, 3, 7, 7, dtype=torch.float64)
    block = LayerBlock(strange, "padding")
    assert block.geometry.stride == (2, 2)
    assert block.geometry.padding == (0, 0)
    assert len(block.stages) == 2
    inputs = block.inputs(x)
    assert torch.equal(inputs, functional.pad(x, (0, 1, 0, 1)))
    with torch.no_grad():
        assert torch.equal(block.values(inputs), strange.eval().padding(x).relu())


class SelfScaling(nn.Linear):
    """Halves what it reads, and calls the function."""

    def forward(self, x):
        return functional.linear(x / 2, self.weight, self.bias)


def test_a_linear_subclass_that_scales_by_itself():
    network = nn.Sequential(SelfScaling(12, 5), nn.ReLU(), nn.Linear(5, 2)).double().eval()
    x = torch.randn(3, 12, dtype=torch.float64)
    block = LayerBlock(network, "0")
    with torch.no_grad():
        inputs = block.inputs(x)
        assert torch.equal(inputs, x / 2)
        assert torch.equal(block.values(inputs), network[:2](x))


class SelfMoving(nn.Conv2d):
    """Calls the function, by place or by name, with its own way to move."""

    by_name = False

    def forward(self, x):
        if self.by_name:
            return functional.conv2d(
                x, self.weight, stride=self.stride, padding=self.padding, dilation=self.dilation, bias=self.bias
            )
        return functional.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation)


@pytest.mark.parametrize("by_name", [False, True])
def test_a_convolution_that_says_by_itself_how_it_moves(by_name):
    network = nn.Sequential(SelfMoving(2, 3, (3, 2), (2, 1), (1, 3), (2, 4)), nn.Tanh()).double().eval()
    network[0].by_name = by_name
    x = torch.randn(2, 2, 7, 8, dtype=torch.float64)
    block = LayerBlock(network, "0")
    assert block.geometry == ((3, 2), (2, 1), (1, 3), (2, 4))
    with torch.no_grad():
        assert torch.equal(block.values(block.inputs(x)), network(x))


def test_padding_that_is_called_valid_is_none():
    network = nn.Sequential(nn.Conv2d(2, 3, 3, padding="valid"), nn.ReLU()).double().eval()
    x = torch.randn(2, 2, 6, 5, dtype=torch.float64)
    block = LayerBlock(network, "0")
    with torch.no_grad():
        assert torch.equal(block.inputs(x), x)
        assert torch.equal(block.values(x), network(x))


class SelfDoubling(nn.Linear):
    """Multiplies by twice its weight."""

    def forward(self, x):
        return functional.linear(x, self.weight.mul(2), self.bias)


def test_a_layer_that_does_more_with_its_weight():
    with pytest.raises(UserError, match="'0' does more with its weight than to convolve or multiply"):
        LayerBlock(nn.Sequential(SelfDoubling(3, 2), nn.ReLU()), "0")


class ActivatedByMethod(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.last(self.first(x).relu())


def test_an_activation_that_is_a_method():
    network = ActivatedByMethod().eval()
    block = LayerBlock(network, "first")
    x = torch.randn(5, 3)
    with torch.no_grad():
        assert torch.equal(block.values(block.inputs(x)), functional.relu(network.first(x)))
    assert len(block.stages) == 2


def test_a_weight_that_another_layer_has_too_is_said():
    network = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
    network[2].weight = network[0].weight
    with pytest.warns(UserWarning, match="the weight of '0' is also that of '2': a rewrite changes both"):
        LayerBlock(network, "0")


def test_padding_that_is_no_zeros_on_both_sides_is_done_before(strange):
    strange.eval()
    x = torch.randn(2, 3, 7, 7, dtype=torch.float64)
    block = LayerBlock(strange, "same")
    read, output = recorded(strange, "same", x)
    with torch.no_grad():
        inputs = block.inputs(x)
        assert torch.equal(block.outputs(inputs), output)
        assert torch.equal(block.values(inputs), functional.silu(strange.norm(output)))
    assert inputs.shape[-2:] == (read.shape[-2] + 1, read.shape[-1] + 2)
    assert len(block.stages) == 4  # dropout does nothing, and does not hide the BatchNorm behind it


def test_linear_layers():
    network = vit_b_16(image_size=32, num_classes=3).eval()
    x = torch.randn(2, 3, 32, 32)
    block = LayerBlock(network, "encoder_layer_1.mlp.0")
    read, output = recorded(network, block.layer, x)
    assert block.geometry is None
    assert block.stages[0] == "encoder.layers.encoder_layer_1.mlp.0"
    with torch.no_grad():
        torch.testing.assert_close(block.inputs(x), read)
        torch.testing.assert_close(block.values(read), functional.gelu(output))


def test_a_layer_behind_its_norm_stands_alone():
    block = LayerBlock(densenet121(num_classes=3), "features.denseblock1.denselayer1.conv2")
    assert block.stages == ("features.denseblock1.denselayer1.conv2",)


class Untraceable(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Linear(4, 2)

    def forward(self, x):
        x = self.norm(self.first(x)).relu()
        if x.sum() > 1e9:
            return x
        return self.last(x.mean((2, 3)))


def test_a_network_that_cannot_be_traced():
    network = Untraceable().eval()
    x = torch.randn(2, 3, 5, 5)
    reason = "symbolically traced variables cannot be used as inputs to control flow"
    with pytest.warns(UserWarning, match=rf"by torch.fx \({reason}\), so the block of 'last' is the layer alone"):
        block = LayerBlock(network, "last")
    read, output = recorded(network, "last", x)
    with torch.no_grad():
        assert torch.equal(block.inputs(x), read)
        assert torch.equal(block.values(read), output)
    assert block.stages == ("last",)
    assert block.upstream_state.keys() == network.state_dict().keys()
    assert not network.last._forward_pre_hooks


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("sam", "Strange has no layer 'sam': linear and convolutional layers are same"),
        ("norm", "only linear and two-dimensional convolutional layers are memories, but 'norm' is a BatchNorm2d"),
        ("grouped", "'grouped' is a convolution with 2 groups"),
        ("shared", "'shared' of Strange is used at 2 places"),
        ("unused", "'unused' of Strange is not used"),
    ],
)
def test_layers_that_are_no_memory(strange, layer, message):
    with pytest.raises(UserError, match=message):
        LayerBlock(strange, layer)


def test_a_chain_names_a_layer_inside():
    with pytest.raises(UserError, match=r"'layer3' is a Sequential: name one of .*, such as 'layer3.0.conv1'"):
        LayerBlock(resnet18(), "layer3")


def test_a_computed_weight(strange):
    nn.utils.parametrizations.spectral_norm(strange.head)
    with pytest.raises(UserError, match="the weight of 'head' is computed from others"):
        LayerBlock(strange, "head")
