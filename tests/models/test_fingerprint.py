import pytest
import torch

from editable.models import cifar_resnet, fingerprint

TENSORS = {"a": torch.arange(24.0).view(1, 2, 3, 4), "b": torch.tensor(3)}


def test_order_and_memory_layout_do_not_matter() -> None:
    a, b = TENSORS["a"], TENSORS["b"]
    other = {"b": b.clone(), "a": a.contiguous(memory_format=torch.channels_last)}
    assert fingerprint(other) == fingerprint(TENSORS)
    assert fingerprint({**TENSORS, "a": a.transpose(2, 3).contiguous().transpose(2, 3)}) == fingerprint(TENSORS)


@pytest.mark.parametrize(
    "other",
    [
        {"a": TENSORS["a"]},
        {"a": TENSORS["a"], "c": TENSORS["b"]},
        {"a": TENSORS["a"].double(), "b": TENSORS["b"]},
        {"a": TENSORS["a"].view(2, 1, 3, 4), "b": TENSORS["b"]},
        {"a": torch.nextafter(TENSORS["a"], torch.tensor(torch.inf)), "b": TENSORS["b"]},
    ],
    ids=["missing", "name", "type", "shape", "value"],
)
def test_anything_else_matters(other: dict[str, torch.Tensor]) -> None:
    assert fingerprint(other) != fingerprint(TENSORS)


def test_a_network() -> None:
    torch.manual_seed(0)
    network = cifar_resnet(width=4, layers=(1, 1, 1, 1))
    before = fingerprint(network.state_dict())
    assert before == fingerprint({name: tensor.clone() for name, tensor in network.state_dict().items()})
    network.fc.bias.data[0] += 1e-3
    assert fingerprint(network.state_dict()) != before
