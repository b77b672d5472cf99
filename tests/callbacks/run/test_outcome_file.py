"""An outcome that is read from its file is the one that was written, whatever plain data it is made of."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from editable.callbacks.run.outcome_file import read_outcome, write_outcome
from editable.errors import UserError


class Pair(NamedTuple):
    before: float
    after: float | None


@dataclass(frozen=True)
class Inner:
    name: str
    values: Tensor


@dataclass(frozen=True)
class Whole:
    inner: list[Inner]
    by_strength: dict[float, dict[str, Pair]]
    places: tuple[int, str]
    names: tuple[str, ...]
    kind: Literal["a", "b"]
    left_out: Inner | None
    given: Inner | None
    count: int = 3

    @property
    def doubled(self) -> int:
        return 2 * self.count


@dataclass(frozen=True)
class Other:
    something: int


WHOLE = Whole(
    [Inner("x", torch.arange(6.0).view(2, 3)), Inner("y", torch.tensor([True, False]))],
    {0.5: {"test": Pair(1.0, None)}, 1.0: {"test": Pair(2.0, 3.5)}},
    (1, "one"),
    ("p", "q", "r"),
    "a",
    None,
    Inner("z", torch.zeros(0, dtype=torch.int64)),
)


def test_what_is_read_is_what_was_written(tmp_path: Path):
    write_outcome(tmp_path / "some" / "outcome.pt", WHOLE)
    read = read_outcome(tmp_path / "some" / "outcome.pt", Whole)
    assert [type(some) for some in read.inner] == [Inner, Inner]
    for there, here in zip([*read.inner, read.given], [*WHOLE.inner, WHOLE.given], strict=True):
        assert there is not None
        assert here is not None
        assert there.name == here.name
        assert there.values.dtype == here.values.dtype
        assert torch.equal(there.values, here.values)
    for field in ("by_strength", "places", "names", "kind", "left_out", "count"):
        assert getattr(read, field) == getattr(WHOLE, field), field
    assert isinstance(read.by_strength[1.0]["test"], Pair)
    assert read.doubled == 6


def test_a_part_of_a_tensor_is_written_alone(tmp_path: Path):
    write_outcome(tmp_path / "outcome.pt", Inner("part", torch.zeros(1_000_000)[:10]))
    assert (tmp_path / "outcome.pt").stat().st_size < 10_000


def test_networks_are_no_outcome(tmp_path: Path):
    with pytest.raises(TypeError, match=r"Inner.values is a Linear; an outcome holds tensors"):
        write_outcome(tmp_path / "outcome.pt", Inner("x", nn.Linear(1, 1)))  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_mistakes(tmp_path: Path):
    with pytest.raises(UserError, match="there is no outcome at"):
        read_outcome(tmp_path / "outcome.pt", Whole)
    write_outcome(tmp_path / "outcome.pt", Other(1))
    with pytest.raises(UserError, match="holds no outcome of the kind Whole"):
        read_outcome(tmp_path / "outcome.pt", Whole)
    (tmp_path / "outcome.pt").write_bytes(b"something else")
    with pytest.raises(UserError, match="holds no outcome of the kind Other"):
        read_outcome(tmp_path / "outcome.pt", Other)
