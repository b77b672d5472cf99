"""Weights from files: strict, in the network's data type, and nothing changed by a failure."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from editable.errors import UserError
from editable.models import cifar_resnet, load_weights

State = dict[str, Tensor]


def small(num_classes: int = 10, width: int = 4, layers: tuple[int, ...] = (1, 1, 1, 1)) -> nn.Module:
    return cifar_resnet(num_classes, width, layers)


def lightning(state: State) -> dict[str, Any]:
    inside = {f"network.{name}": value for name, value in state.items()}
    return {"epoch": 3, "state_dict": {**inside, "editor.decay": torch.tensor(0.5)}, "hyper_parameters": {"lr": 0.1}}


def save(content: Any, path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file(content, path)
    else:
        torch.save(content, path)
    return path


@pytest.mark.parametrize(
    ("name", "wrap"),
    [
        ("a.safetensors", lambda state: state),
        ("a.pt", lambda state: state),
        ("a.pth", lambda state: {"state_dict": state}),
        ("a.ckpt", lightning),
    ],
)
def test_file_kinds(tmp_path: Path, name: str, wrap: Callable[[State], Any]) -> None:
    state = small().state_dict()
    network = small()
    load_weights(network, save(wrap(state), tmp_path / name))
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


def test_values_take_the_networks_dtype(tmp_path: Path) -> None:
    state = {name: value.half() if value.is_floating_point() else value for name, value in small().state_dict().items()}
    network = small()
    parameters = list(network.parameters())
    load_weights(network, str(save(state, tmp_path / "half.safetensors")))
    for key, value in network.state_dict().items():
        assert value.dtype == (torch.float32 if state[key].is_floating_point() else torch.int64)
        assert torch.equal(value, state[key].to(value.dtype))
    assert all(
        now is before and now.requires_grad for now, before in zip(network.parameters(), parameters, strict=True)
    )


def test_old_file_without_batch_counters(tmp_path: Path) -> None:
    state = {name: value for name, value in small().state_dict().items() if not name.endswith("num_batches_tracked")}
    network = small()
    load_weights(network, save(state, tmp_path / "old.pth"))
    assert torch.equal(network.fc.weight, state["fc.weight"])


def drop(state: State, *names: str) -> State:
    return {name: value for name, value in state.items() if name not in names}


class Payload:
    """A pickle of this would run code."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("code from a checkpoint ran",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: drop(small().state_dict(), "bn1.weight", "fc.bias"), r"2 missing \(bn1.weight, fc.bias\)"),
        (lambda: {**small().state_dict(), "extra": torch.ones(1)}, r"1 unexpected \(extra\)"),
        (lambda: small(layers=(2, 1, 1, 1)).state_dict(), r"12 unexpected \(layer1.1.conv1.weight, .*, …\)"),
        (lambda: small(width=2).state_dict(), r"of another shape \(conv1.weight \[2, 3, 3, 3\] for \[4, 3, 3, 3\]"),
        (
            lambda: small(100).state_dict(),
            "only the final classifier 'fc' differs, with 100 classes in the file and 10",
        ),
        (lambda: {"epoch": 1}, "holds no state dict"),
        (lambda: [1, 2], "holds no state dict"),
        (lambda: {**small().state_dict(), "payload": Payload()}, "Python objects"),
    ],
)
def test_what_does_not_fit_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: Callable[[], Any], message: str
) -> None:
    network = small()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(UserError, match=message) as caught:
        load_weights(network, save(content(), tmp_path / "other.pt"))
    assert "other.pt" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt", "a.ckpt"])
@pytest.mark.parametrize("content", [b"", b"no weights at all", None])
def test_broken_file(tmp_path: Path, name: str, content: bytes | None) -> None:
    path = tmp_path / name
    if content is None:  # a download that broke off
        save(small().state_dict(), path)
        content = path.read_bytes()[:-100]
    path.write_bytes(content)
    with pytest.raises(UserError, match="cannot read") as caught:
        load_weights(small(), path)
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no weights file at '.*nowhere.pt'"):
        load_weights(small(), tmp_path / "nowhere.pt")


def test_unknown_file_type(tmp_path: Path) -> None:
    path = tmp_path / "weights.h5"
    path.touch()
    with pytest.raises(UserError, match=r"weights.h5'.*give a .safetensors"):
        load_weights(small(), path)
