"""A network that tracing would change is run as a whole, says why, and stays as it was."""

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from editable.models import SplitNetwork
from tests.warned import no_warning


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a = nn.Conv2d(3, 8, 3, padding=1, stride=2)
        self.b = nn.Conv2d(8, 8, 3, padding=1)
        self.fc = nn.Linear(8, 5)
        self.register_buffer("calls", torch.zeros(()))
        self.seen: list[object] = []

    def body(self, x: Tensor) -> Tensor:
        return functional.relu(self.b(functional.relu(self.a(x))))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(x).mean((2, 3)))


class CountsByAssignment(Base):
    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x)


class CountsInPlace(Base):
    def forward(self, x: Tensor) -> Tensor:
        self.calls.add_(1)
        return super().forward(x)


class Branches(Base):
    """Cannot be traced, and counts its calls."""

    def forward(self, x: Tensor) -> Tensor:
        self.calls.add_(1)
        return super().forward(x if x.mean() > 0 else x.flip(-1))


class Remembers(Base):
    """Keeps what went through it in attributes: tracing must not leave proxies there."""

    def forward(self, x: Tensor) -> Tensor:
        self.last = super().forward(x)
        self.seen.append(self.last)
        return self.last


class Autocasts(Base):
    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return super().forward(x).float()


class Switches(Base):
    """Behaves otherwise where Python sees a tensor."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (2 if isinstance(x, Tensor) and not isinstance(x, fx.Proxy) else 1)


class Draws(Base):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(functional.dropout(x, 0.5, training=True))


def rescale(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    return (inputs[0] * -3.0,)


def hooked() -> nn.Module:
    network = Base()
    network.register_forward_pre_hook(rescale)
    return network


def images(count: int = 4) -> Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def split_and_run(network: nn.Module) -> tuple[SplitNetwork, tuple[Tensor, ...]]:
    split = SplitNetwork(network, "b")
    return split, split.prefix(images())


@pytest.mark.parametrize(
    ("make", "cause"),
    [
        (hooked, "the network itself has a hook; logits differ by up to"),
        (CountsByAssignment, "calls|cannot be traced"),
        (Branches, "cannot be traced"),
        (CountsInPlace, "writes into its buffer 'calls'"),
        (Autocasts, "the forward of the network itself uses autocast; logits differ"),
        (Switches, "its forward does something that tracing does not see"),
    ],
)
def test_what_tracing_would_change_is_run_as_a_whole(make: Callable[[], nn.Module], cause: str) -> None:
    network = make().eval()
    before, attributes = copy.deepcopy(network.state_dict()), set(vars(network))
    with pytest.warns(UserWarning, match=rf"({cause}).*the whole network runs again for every step"):
        split, features = split_and_run(network)
    shifted = {name: value.detach() + 0.1 for name, value in split.params.items()}
    logits = split.suffix(features, shifted)
    assert set(vars(network)) == attributes
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items()), "no buffer is written"
    with torch.no_grad():
        network.load_state_dict({**before, **shifted})
        torch.testing.assert_close(logits, network(images()), rtol=0, atol=0)
    with no_warning():
        again = pickle.loads(pickle.dumps(split))
        torch.testing.assert_close(again.suffix(again.prefix(images()), {}), logits, rtol=0, atol=0)


def test_a_forward_that_draws_says_so() -> None:
    with pytest.warns(UserWarning, match="its forward gives other values each time"):
        SplitNetwork(Draws().eval(), "b").prefix(images())


def test_no_proxy_stays_in_the_network() -> None:
    network = Remembers().eval()
    split = SplitNetwork(network, "b")
    assert not hasattr(network, "last")
    assert network.seen == []
    with torch.no_grad():
        assert torch.equal(split.suffix(split.prefix(images()), {}), network(images()))
    assert isinstance(network.last, Tensor)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_values_that_are_no_numbers_are_no_disagreement(value: float) -> None:
    network = Base().eval()
    split = SplitNetwork(network, "b")
    with torch.no_grad():
        network.fc.bias[0] = value  # which the split would have refused
    with no_warning():
        features = split.prefix(images())
    assert not split.suffix(features, {})[:, 0].isfinite().any()
    assert split.suffix(features, {})[:, 1:].isfinite().all()


def test_hooks_of_layers_are_run() -> None:
    """They hang where tracing sees them: the network is divided all the same."""
    network = Base().eval()
    network.a.register_forward_pre_hook(rescale)
    with no_warning(), torch.no_grad():
        split = SplitNetwork(network, "b")
        assert torch.equal(split.suffix(split.prefix(images()), {}), network(images()))
