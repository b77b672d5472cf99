"""Logits are found in whatever a network returns, the same in its plain and its traced form; other shapes are named."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from editable.errors import UserError
from editable.models import SplitNetwork, logits_of
from editable.models.logits import require_logits, say_what_is_taken
from tests.warned import whatever_is_warned

LOGITS, OTHER = torch.arange(6.0).view(2, 3), torch.ones(2, 3)


@dataclass
class Held:
    logits: Any
    hidden: Any = None


class Named(NamedTuple):
    auxiliary: Any
    logits: Any


class Loose:
    def __init__(self, value: Any) -> None:
        self.scores, self.loss = value, None


OUTPUTS = [
    (lambda x: x, None),
    (lambda x: (x, OTHER), "a tuple: its element 0, of 2,"),
    (lambda x: [None, x, OTHER], "a list: its element 1, of 3,"),
    (lambda x: {"loss": None, "logits": x, "features": OTHER}, "a dict: its 'logits'"),
    (lambda x: OrderedDict(out=x, aux=OTHER), "a OrderedDict: its 'out'"),
    (lambda x: {"scores": x}, "a dict: its 'scores'"),
    (lambda x: Held(x, OTHER), "a Held: its 'logits'"),
    (lambda x: Named(OTHER, x), "a Named: its 'logits'"),
    (lambda x: Loose(x), "a Loose: its 'scores'"),
]


@pytest.mark.parametrize(("wrap", "told"), OUTPUTS)
def test_logits_are_found_and_what_was_taken_is_said(wrap: Any, told: str | None):
    assert logits_of(wrap(LOGITS)) is LOGITS
    with whatever_is_warned() as said:
        say_what_is_taken(nn.Identity(), wrap(LOGITS))
    assert [str(warning.message) for warning in said] == (
        [] if told is None else [f"Identity returns {told} is taken for the logits"]
    )


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ({"a": LOGITS, "b": OTHER}, r"returns a dict with 'a', 'b', in which no logits are found"),
        ((None, 3), "returns a tuple, in which no logits"),
        (None, "returns a NoneType, in which no logits"),
        (3.0, "returns a float, in which no logits"),
        ({}, "returns a dict, in which no logits"),
    ],
)
def test_outputs_without_logits_are_refused(output: Any, words: str):
    with pytest.raises(UserError, match=words):
        logits_of(output)


@pytest.mark.parametrize("shape", [(4, 10, 1, 1), (10,), (5, 10), (4, 0), ()])
def test_other_shapes_are_refused(shape: tuple[int, ...]):
    with pytest.raises(UserError, match=r"for 4 images, but a classifier's logits are \[4, classes\]"):
        require_logits(torch.zeros(shape), 4)
    require_logits(torch.zeros(4, 10), 4)
    with pytest.raises(UserError, match=r"of type torch.int64, but logits are floating-point numbers"):
        require_logits(torch.zeros(4, 10, dtype=torch.int64), 4)


class Wrapped(nn.Module):
    def __init__(self, wrap: Any) -> None:
        super().__init__()
        self.wrap, self.first, self.head, self.other = wrap, nn.Linear(5, 4), nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Any:
        features = self.first(x).relu()
        return self.wrap(self.head(features), self.other(features))


@pytest.mark.filterwarnings("ignore:Wrapped returns")
@pytest.mark.parametrize(
    "wrap",
    [
        lambda one, other: (one, other),
        lambda one, other: {"logits": one, "other": other},
        lambda one, other: Held(one, other),
        lambda one, other: Named(other, one),
    ],
)
def test_a_split_network_gives_the_logits(wrap: Any):
    network, x = Wrapped(wrap), torch.randn(4, 5)
    split = SplitNetwork(network, "head")
    assert torch.equal(split.suffix(split.prefix(x), {}), network.head(network.first(x).relu()))
    assert split.prefix(x)[0].shape == (4, 4), "it is divided, not run as a whole"
