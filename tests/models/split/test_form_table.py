"""One table decides in which form edits are computed; what they are does not depend on it."""

import pytest
import torch
from torch.nn import functional as F

from editable.editing import Editor, RMSProp
from editable.models import SplitNetwork, cifar_resnet
from editable.models.split.edit_form import patch_conv2d
from editable.models.split.form_table import FORMS, are_large, form_of, is_product

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_what_was_measured_is_said():
    assert {name for name, form in FORMS.items() if form.measured} == {"cpu"}
    assert not form_of("meta").measured


@pytest.mark.parametrize(
    ("device", "alone", "together"), [(CPU, 512, 512), (CUDA, 0, 256), (torch.device("mps"), 0, 0)]
)
def test_a_product_up_to_so_many_positions(device, alone, together):
    kernel = torch.ones(2, 1, 3, 3)
    assert form_of(device)[:2] == (alone, together)

    def largest(weight):
        return max([0, *(number for number in range(1, 1024) if is_product(weight, device, number))])

    found = []
    torch.func.vmap(lambda weight: found.append(largest(weight)) or weight)(kernel.expand(3, -1, -1, -1, -1))
    assert (largest(kernel), *found) == (alone, together)


def test_large_edits():
    half = {"a": torch.empty(3 * 2**19), "b": torch.empty(3 * 2**19 - 1)}  # 12 MiB less four bytes
    assert not are_large(half)
    assert not are_large(half | {"b": torch.empty(3 * 2**19)})
    assert are_large(half | {"b": torch.empty(3 * 2**19 + 1)})
    assert not are_large({name: torch.empty(2**30, device="meta") for name in half})
    assert not are_large({})


def network():
    torch.manual_seed(0)
    return cifar_resnet(5, 4, (1, 1, 1, 1)).double().eval()


@pytest.mark.parametrize("positions", [0, 16, 10**6])
@pytest.mark.parametrize("differentiable", [False, True])
def test_edits_together_are_those_one_by_one_in_either_form(positions, differentiable, monkeypatch):
    split, editor = SplitNetwork(network(), "layer3"), Editor(RMSProp(1e-3), 3, margin=100).double()
    features = tuple(feature.unsqueeze(1) for feature in split.prefix(torch.randn(3, 3, 16, 16).double()))
    labels = torch.tensor([[0], [1], [4]])
    expected = [
        editor(split.suffix, split.params, tuple(feature[edit] for feature in features), labels[edit])
        for edit in range(3)
    ]
    groups, convolve = [], F.conv2d

    def conv2d(x, weight, *others):
        if torch._C._functorch.is_batchedtensor(weight):
            groups.append(x.shape[-2:].numel())
        return convolve(x, weight, *others)

    monkeypatch.setattr(F, "conv2d", conv2d)
    monkeypatch.setitem(FORMS, "cpu", FORMS["cuda"]._replace(together=positions))
    found = editor.edit_many(split.edit_suffix, split.params, features, labels, differentiable)
    # layer3 ends with 4 × 4 positions; its first convolution reads 8 × 8, and the downsampling one too
    assert bool(groups) == (positions == 0)
    for edit, alone in enumerate(expected):
        for name, value in alone.params.items():
            torch.testing.assert_close(found.params[name][edit], value, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("form", [FORMS["cpu"], FORMS["cuda"]])
def test_one_kernel_is_a_convolution_on_a_card(form, monkeypatch):
    """It has the fewest kernels to start; the same kernel for the images of all edits is one convolution, no group."""
    called, convolve = [], F.conv2d
    monkeypatch.setattr(F, "conv2d", lambda *arguments: called.append(arguments) or convolve(*arguments))
    monkeypatch.setitem(FORMS, "cpu", form)
    images, weight, geometry = torch.randn(3, 1, 2, 4, 4), torch.randn(5, 2, 3, 3), ((1, 1), (1, 1), (1, 1), 1)
    together = torch.func.vmap(lambda x: patch_conv2d(x, weight, None, geometry))(images)
    torch.testing.assert_close(together[:, 0], convolve(images[:, 0], weight, padding=1))
    assert len(called) == (form is FORMS["cuda"])
