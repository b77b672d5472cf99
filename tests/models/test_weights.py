"""Weights from files: strict, in the network's data type, and nothing changed by a failure."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import Tensor, nn

from editable.errors import UserError
from editable.models import cifar_resnet, load_weights, read_checkpoint

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


def moments() -> dict[str, Any]:
    """Return what an optimizer keeps after a step: tensors as large as the network's, by number."""
    network = small()
    optimizer = torch.optim.Adam(network.parameters())
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return optimizer.state_dict()


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
        (lambda: {"epoch": 1, "optimizer": moments()}, "holds no state dict, but a dict with 'epoch', 'optimizer'"),
        (lambda: moments(), "holds no state dict, but a dict with 'state', 'param_groups'"),
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


class Tied(nn.Module):
    """One layer under two names, another one's memory in a third, and an attribute that is called network."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Linear(3, 3)
        self.again = self.network
        self.shared = nn.Linear(3, 3)
        self.shared.weight.data = self.network.weight.data


def random_state(network: nn.Module) -> State:
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return {name: value.clone() for name, value in network.state_dict().items()}


def behind(prefix: str) -> Callable[[State], State]:
    return lambda state: {prefix + name: value for name, value in state.items()}


AVERAGE = "beside them left out"


@pytest.mark.parametrize(
    ("wrap", "said"),
    [
        (behind("module."), "behind the prefix 'module.'"),
        (behind("_orig_mod."), "behind the prefix '_orig_mod.'"),
        (behind("model.module."), "behind the prefix 'model.module.'"),
        (lambda state: {"model": state, "epoch": 3}, "from its entry 'model'"),
        (lambda state: {"model_state_dict": state, "optimizer": {"state": {}}}, "from its entry 'model_state_dict'"),
        (lambda state: {"state_dict": behind("module.")(state)}, "behind the prefix 'module.'"),
        (lambda state: {"checkpoint": {"net": behind("_orig_mod.")(state)}}, "entry 'checkpoint.net', found behind"),
        (lambda state: {"model_ema": zeros(state), "model": state}, f"1 others {AVERAGE} .model_ema"),
        (lambda state: {"state_dict": state, "state_dict_ema": zeros(state)}, f"1 others {AVERAGE} .state_dict_ema"),
        (lambda state: {**state, **behind("ema.")(zeros(state))}, rf"\d+ others {AVERAGE} .ema."),
        (lambda state: {**behind("ema.")(zeros(state)), **behind("model.")(state)}, r"'model.', and \d+ others"),
        (lambda state: {**behind("avg.")(zeros(state)), **behind("model.")(state)}, r"'model.', and \d+ others"),
        (
            lambda state: {"state_dict": {**behind("ema_net.")(zeros(state)), **behind("classifier.")(state)}},
            "'classifier.'",
        ),
        (lambda state: {"swa_model": zeros(state), "zmodel": state}, rf"'zmodel', and 1 others {AVERAGE} .swa_model"),
        (lambda state: {"shadow": zeros(state), "weights_raw": state}, "entry 'weights_raw'"),
        (behind("ema."), "behind the prefix 'ema.'"),  # an average alone is taken
    ],
)
def test_checkpoints_as_people_have_them(tmp_path: Path, wrap: Callable[[State], Any], said: str) -> None:
    network, state = small(), random_state(small())
    with pytest.warns(UserWarning, match=said):
        load_weights(network, save(wrap(state), tmp_path / "a.pt"))
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


def zeros(state: State) -> State:
    return {name: torch.zeros_like(value) for name, value in state.items()}


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"state_dict": behind("network.")(state)}])
def test_a_network_with_an_attribute_called_network(tmp_path: Path, wrap: Callable[[State], Any]) -> None:
    network, state = Tied(), random_state(Tied())
    load_weights(network, save(wrap(state), tmp_path / "a.pt"))
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


def test_tied_tensors_that_safetensors_leaves_out(tmp_path: Path) -> None:
    original, network = Tied(), Tied()
    state = random_state(original)
    save_model(original, str(tmp_path / "a.safetensors"))
    load_weights(network, tmp_path / "a.safetensors")
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda state: {**state, "network.bias": torch.full((3,), torch.nan)},
            "3 values in network.bias .* NaN or inf",
        ),
        (lambda state: {**state, "network.bias": torch.tensor([1.0, torch.inf, 0.0])}, "1 values in network.bias"),
        (lambda state: {**state, "network.bias": torch.ones(3, dtype=torch.int8)}, "network.bias as torch.int8 where"),
        (lambda state: {**state, "again.bias": torch.ones(3)}, "different values for network.bias and again.bias"),
        (lambda state: {"state": 3, "model": {}}, "holds no state dict, but a dict with 'state', 'model'"),
    ],
)
def test_values_that_cannot_be_meant(tmp_path: Path, change: Callable[[State], Any], message: str) -> None:
    network = Tied()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(UserError, match=message):
        load_weights(network, save(change(random_state(Tied())), tmp_path / "a.pt"))
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_a_pickle_is_refused_with_the_line_that_converts_it(tmp_path: Path) -> None:
    torch.save(Tied(), tmp_path / "a.pt")
    with pytest.raises(
        UserError, match=r"could run code .* trust, by python -c \"import torch; torch.save\(.*state_dict"
    ):
        load_weights(Tied(), tmp_path / "a.pt")


def test_files_that_are_no_checkpoint_end_in_a_sentence(tmp_path: Path) -> None:
    """Whatever torch's reader takes the bytes for: text, halves of a checkpoint, bytes changed or drawn at random."""
    draw, path = random.Random(0), tmp_path / "some.ckpt"
    torch.save({"a": torch.zeros(3)}, path)
    whole = path.read_bytes()
    garbage = [b"", b"somebody's", b"{}", b"PK\x03\x04", b"\x80\x02]q\x00.", whole[:-1], b"\x89PNG\r\n\x1a\n"]
    garbage += [draw.randbytes(draw.randrange(1, 200)) for _ in range(150)]
    garbage += [whole[: draw.randrange(len(whole))] for _ in range(50)]
    refused = 0
    for content in garbage:
        path.write_bytes(content)
        try:
            read_checkpoint(path)  # a few bytes may happen to be a number
        except UserError:
            refused += 1
    assert refused > len(garbage) - 10
