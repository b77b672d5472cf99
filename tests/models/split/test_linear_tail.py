"""Where one linear layer is editable and all behind it is linear, logits are the unedited ones plus a product."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from editable.models import SplitNetwork, add_codebook, add_extra_layer, linear_tail


class Joined(nn.Module):
    """Layers behind the edited one, with sums of its output and other values."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.edited, self.behind = nn.Linear(6, 5), nn.Linear(5, 4), nn.Linear(4, 7)
        self.last, self.drop, self.other = nn.Linear(7, 3), nn.Dropout(0.5), nn.Linear(6, 7, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.behind(self.edited(torch.tanh(self.first(x))))
        return 1.5 + self.last(self.drop(y + self.other(x)) + y)


class Odd(nn.Module):
    """A linear layer with something behind it that is not known to be linear."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.edited, self.last, self.kind = nn.Linear(6, 4), nn.Linear(4, 3), kind
        self.norm, self.same = nn.LayerNorm(4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        z = self.edited(x)
        if self.kind == "twice":
            z = z + self.edited(2 * x)
        elif self.kind == "broadcast":
            z = z[:, :1] + x[:, :4]
        elif self.kind == "shared":
            z = self.same(self.same(z))
        else:
            z = {"relu": functional.relu, "norm": self.norm, "product": lambda z: z * x[:, :4]}[self.kind](z)
        return self.last(z)


def plain(classes: int = 3, bias: bool = True) -> nn.Module:
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, classes, bias=bias))


CASES = {
    "last": (lambda: plain(), ["2"]),
    "without bias": (lambda: plain(bias=False), ["2"]),
    "weight alone": (lambda: plain(), ["2.weight"]),
    "bias alone": (lambda: plain(), ["2.bias"]),
    "extra layer": (lambda: extra_layer(), ["*contract*"]),
    "joined": (Joined, ["edited"]),
}


def extra_layer() -> nn.Module:
    network = add_extra_layer(plain(), hidden=8)
    for param in network.parameters():
        nn.init.normal_(param, std=0.5)
    return network


def edited_params(split: SplitNetwork, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: param.detach() + torch.randn(param.shape, generator=generator).to(param)
        for name, param in split.params.items()
    }


@pytest.mark.parametrize("case", CASES)
def test_logits_follow_the_change(case: str):
    torch.manual_seed(1)
    make, patterns = CASES[case]
    network = make().double().eval()
    split = SplitNetwork(network, patterns)
    x = torch.randn(9, 6, dtype=torch.float64)
    features = split.prefix(x)
    tail = linear_tail(split, features)
    assert tail is not None
    params = edited_params(split)
    edited = copy.deepcopy(network)
    edited.load_state_dict(params, strict=False)
    keys, logits, _ = tail(features)
    torch.testing.assert_close(logits, network(x))
    torch.testing.assert_close(logits + keys @ tail.change(params).T, edited(x))
    assert not torch.allclose(edited(x), network(x))
    assert not tail.change({}).any()


@pytest.mark.parametrize("case", CASES)
def test_rounding_is_within_the_slack(case: str):
    torch.manual_seed(2)
    make, patterns = CASES[case]
    network = make().eval()
    x = 100 * torch.randn(500, 6)
    split, exact = SplitNetwork(network, patterns), SplitNetwork(copy.deepcopy(network).double(), patterns)
    features = split.prefix(x)
    tail = linear_tail(split, features[:1] and tuple(some[:2] for some in features))
    assert tail is not None
    params = edited_params(split)
    keys, logits, slack = tail(features)
    added, _ = tail.rounding(params)
    true = tuple(some.double() for some in features)
    for given, allowed in (({}, slack), (params, slack + added * keys.norm(dim=1))):
        truth = exact.suffix(true, {name: param.double() for name, param in given.items()})
        error = (split.suffix(features, given).double() - truth).abs().amax(dim=1)
        ours = (logits + keys @ tail.change(given).T).double()
        assert (error <= allowed).all()
        assert ((ours - truth).abs().amax(dim=1) <= allowed).all()
        assert (allowed < 1e-3 * truth.abs().max()).all()


NONE = {
    "two layers": (lambda: plain(), ["0", "2"]),
    "not the last": (lambda: plain(), ["0"]),
    "all of an extra layer": (lambda: extra_layer(), ["extra_layer"]),
    "codebook": (lambda: add_codebook(plain()), ["codebook"]),
    "convolution": (lambda: nn.Sequential(nn.Unflatten(1, (6, 1, 1)), nn.Conv2d(6, 3, 1), nn.Flatten()), ["1"]),
    **{
        kind: (lambda kind=kind: Odd(kind), ["edited"])
        for kind in ("relu", "norm", "product", "twice", "broadcast", "shared")
    },
}


@pytest.mark.parametrize("case", NONE)
def test_elsewhere_there_is_none(case: str):
    make, patterns = NONE[case]
    split = SplitNetwork(make().eval(), patterns)
    assert linear_tail(split, split.prefix(torch.randn(2, 6))) is None


def test_neither_with_hooks_nor_tied():
    network = plain().eval()
    network[2].register_forward_hook(lambda layer, arguments, output: output.relu())
    split = SplitNetwork(network, ["2"])
    assert linear_tail(split, split.prefix(torch.randn(2, 6))) is None
    tied = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6)).eval()
    tied[2].weight = tied[0].weight
    split = SplitNetwork(tied, ["2.weight"])
    assert linear_tail(split, split.prefix(torch.randn(2, 6))) is None
