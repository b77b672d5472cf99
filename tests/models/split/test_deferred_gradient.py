"""A shared weight gets the gradient that each product would have given it, and only where that is right."""

import pytest
import torch
from torch import Tensor

from editable.editing import GD, Editor, RMSProp
from editable.models import SplitNetwork, cifar_resnet
from editable.models.split.deferred_gradient import DeferredWeight
from editable.models.split.edit_form import SharedKernel
from editable.models.split.form_table import FORMS
from tests.models.reference import normal, settled


def descend(product, start: Tensor, steps: int = 3) -> Tensor:
    """A loss after some differentiable steps of descent through products with a weight."""
    x = start
    for _ in range(steps):
        loss = product(product(x.tanh()).tanh()).square().sum()
        (gradient,) = torch.autograd.grad(loss, x, create_graph=True)
        x = x - 0.1 * gradient
    return product(x.tanh()).sum()


def test_gradients_through_steps_of_descent():
    weight, start = normal(4, 4).requires_grad_(), normal(4, 2, seed=1).requires_grad_()
    expected = torch.autograd.grad(descend(lambda x: weight @ x, start), (weight, start))
    ours = torch.autograd.grad(descend(DeferredWeight(weight).product, start), (weight, start))
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


def test_a_pass_that_does_not_ask_for_the_weight_leaves_nothing_behind():
    weight, start = normal(4, 4).requires_grad_(), normal(4, 2, seed=1).requires_grad_()
    expected = torch.autograd.grad(descend(lambda x: weight @ x, start), (weight, start))
    loss = descend(DeferredWeight(weight).product, start)
    for _ in range(2):
        (alone,) = torch.autograd.grad(loss, start, retain_graph=True)
        torch.testing.assert_close(alone, expected[1], rtol=1e-12, atol=1e-12)
        both = torch.autograd.grad(loss, (weight, start), retain_graph=True)
        torch.testing.assert_close(both, expected, rtol=1e-12, atol=1e-12)


def test_its_gradient_cannot_be_differentiated_again():
    weight, start = normal(4, 4).requires_grad_(), normal(4, 2, seed=1).requires_grad_()
    loss = descend(DeferredWeight(weight).product, start)
    with pytest.raises(NotImplementedError, match="cannot itself be differentiated"):
        torch.autograd.grad(loss, weight, create_graph=True)


def test_autocast_inside_or_around_changes_nothing_of_a_product():
    weight, start = normal(4, 4).float().requires_grad_(), normal(4, 2, seed=1).float().requires_grad_()
    expected = torch.autograd.grad(descend(lambda x: weight @ x, start), (weight, start))
    with torch.autocast("cpu", torch.bfloat16):
        loss = descend(DeferredWeight(weight).product, start)
    ours = torch.autograd.grad(loss, (weight, start))  # the backward pass of training runs outside of autocast
    torch.testing.assert_close(ours, expected)


def test_an_edit_under_autocast_goes_backward():
    torch.manual_seed(0)
    network = cifar_resnet(5, width=4, layers=(1, 1, 1, 1)).eval()
    split = SplitNetwork(network, "layer3")
    features, labels = split.prefix(torch.randn(1, 3, 8, 8)), torch.tensor([1])
    gradients = []
    for autocast in (False, True):
        editor = Editor(GD(0.01), max_steps=2, margin=100.0, autocast=autocast)
        with torch.autocast("cpu", torch.bfloat16):
            result = editor(split.unrolled_suffix(), split.params, features, labels, differentiable=True)
        gradients.append(torch.autograd.grad(result.loss, list(network.layer4.parameters())))
    for low, full in zip(gradients[1], gradients[0], strict=True):
        assert (low - full).norm() <= 0.1 * full.norm()  # bfloat16 has three digits, and the steps add their errors


def test_a_weight_that_no_product_depends_on():
    weight = normal(4, 4).requires_grad_()
    deferred = DeferredWeight(weight)
    assert torch.autograd.grad(deferred.token, weight, allow_unused=True) == (None,)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("pattern", ["layer2.0.conv2", "layer3", "bn1", "all"])
@pytest.mark.parametrize("edits", [1, 2])
@pytest.mark.parametrize("rule", [GD(0.01), RMSProp(1e-3, learn_decay=True)], ids=["GD", "RMSProp"])
def test_an_unrolled_edit_has_the_gradients_of_the_plain_suffix(rule, edits: int, pattern: str, layout):
    torch.manual_seed(0)
    network = settled(cifar_resnet(5, width=4, layers=(1, 1, 1, 1))).eval()
    split = SplitNetwork(network, pattern)
    editor = Editor(rule.double(), max_steps=3, margin=100.0)
    images, labels = normal(edits, 3, 8, 8), torch.tensor([[1], [3]])[:edits]
    gradients = []
    for plain in (True, False):
        # The reference stays contiguous: torch's own gradients under vmap are wrong for other weights in float64.
        network.to(memory_format=torch.contiguous_format if plain else layout)
        suffix = split.suffix if plain else split.unrolled_suffix()
        features = tuple(feature.unsqueeze(1) for feature in split.prefix(images))
        result = editor.edit_many(suffix, split.params, features, labels, differentiable=True)
        loss = result.loss.sum() + 1e-3 * sum(param.square().sum() for param in result.params.values())
        loss.backward()
        gradients.append([param.grad for param in (*network.parameters(), *editor.parameters())])
        for param in (*network.parameters(), *editor.parameters()):
            param.grad = None
    # Where a gradient is small, the derivative of g/√(s + ε) enlarges rounding by up to 1/√ε.
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-8)


def test_kernels_are_shared_where_an_edit_leaves_them_alone():
    network = cifar_resnet(5, width=4, layers=(1, 1, 1, 1))
    network.layer4[0].conv2.weight.requires_grad_(False)
    split, seen = SplitNetwork(network, "layer3"), {}
    run = split._run

    def watched(half, features, params, others=None):
        seen.update(others or {})
        return run(half, features, params, others)

    split._run = watched
    split.unrolled_suffix()(split.prefix(torch.randn(1, 3, 8, 8)), split.params)
    assert set(seen) == {"network.layer4.0.conv1.weight", "network.layer4.0.downsample.0.weight"}
    assert all(isinstance(kernel, SharedKernel) for kernel in seen.values())


@pytest.mark.parametrize("most", [0, 512])
def test_edits_under_vmap_are_those_of_a_loop_with_channels_last(most: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(FORMS, "cpu", FORMS["cpu"]._replace(alone=most, together=most))
    torch.manual_seed(0)
    network = cifar_resnet(5, width=4, layers=(1, 1, 1, 1)).double().to(memory_format=torch.channels_last).eval()
    split, editor = SplitNetwork(network, "layer3"), Editor(GD(0.01), max_steps=3, margin=100.0)
    features = tuple(feature.unsqueeze(1) for feature in split.prefix(normal(2, 3, 8, 8)))
    labels = torch.tensor([[1], [3]])
    together = editor.edit_many(split.edit_suffix, split.params, features, labels)
    for edit in range(2):
        alone = editor(split.suffix, split.params, tuple(feature[edit] for feature in features), labels[edit])
        for name, param in alone.params.items():
            torch.testing.assert_close(together.params[name][edit], param, rtol=1e-10, atol=1e-10)
