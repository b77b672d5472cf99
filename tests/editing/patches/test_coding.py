"""Changed tensors in few bytes: exact there and back, whatever the type; and small where there is structure."""

import zlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from editable.editing import EditPatch
from editable.editing.patches.coding import changed_rows, decoded, encoded, form, staying_rows, taken_back

FLOATS = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
TYPES = [*FLOATS, torch.int64, torch.int32, torch.uint8, torch.bool, torch.complex64]


def size(parts: dict[str, torch.Tensor]) -> int:
    return sum(part.nbytes for part in parts.values())


def content(some: torch.Tensor) -> tuple[torch.dtype, torch.Size, bytes]:
    """Return type, shape and bits of a tensor, by which NaN equals itself and -0 is not 0."""
    return some.dtype, some.shape, some.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def there_and_back(before: torch.Tensor, after: torch.Tensor) -> dict[str, torch.Tensor]:
    parts = encoded(before, after)
    assert content(decoded(before, parts)) == content(after)
    assert content(taken_back(after, parts)) == content(before)
    return parts


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(), (0, 3), (7,), (40, 50), (16, 8, 3, 3)])
def test_every_type_and_shape(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    before, after = (torch.randn(shape, generator=generator).mul(100).to(dtype) for _ in range(2))
    for then in (after, before):
        parts = encoded(before, then)
        assert content(decoded(before, parts)) == content(then)
        assert content(taken_back(then, parts)) == content(before)


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.sampled_from(FLOATS), st.floats(1e-6, 1.0), st.integers(0, 1))
def test_changes_of_low_rank(seed: int, rank: int, dtype: torch.dtype, scale: float, side: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    before = torch.randn(24, 20, 3, 3, generator=generator).to(dtype)
    u, v = torch.randn(before.shape[side], rank, generator=generator), torch.randn(rank, 180 + 36 * side)
    change = (scale * (u @ v)).view(before.movedim(side, 0).shape).movedim(0, side)
    after = (before.double() + change.double()).to(dtype)
    parts = encoded(before, after)
    assert content(decoded(before, parts)) == content(after)
    assert content(taken_back(after, parts)) == content(before)


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("side", [0, 1])
def test_low_rank_is_found_in_either_matrix_of_a_convolution(rank: int, side: int) -> None:
    generator = torch.Generator().manual_seed(0)
    before = torch.randn(64, 64, 3, 3, generator=generator) / 24
    u, v = torch.randn(64, rank, generator=generator), torch.randn(rank, 576, generator=generator)
    change = (0.001 * u @ v).view(64, 64, 3, 3).movedim(0, side)
    parts = there_and_back(before, before + change)
    assert form(parts) == f"rank {rank} and rounding"
    assert size(parts) < before.nbytes / 6


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_factors_are_as_exact_as_the_tensor(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    before = torch.randn(64, 576, generator=generator, dtype=dtype)
    u, v = torch.randn(64, 1, generator=generator, dtype=dtype), torch.randn(1, 576, generator=generator, dtype=dtype)
    change = torch.finfo(dtype).eps ** 0.5 / 100 * u @ v
    parts = there_and_back(before, before + change)
    assert form(parts) == "rank 1 and rounding"
    assert parts["u"].dtype == parts["v"].dtype == dtype
    assert size(parts) < before.nbytes / 3


@pytest.mark.parametrize(("rank", "how"), [(16, "rank 16 and rounding"), (17, "bits, packed")])
def test_a_quarter_of_the_rows_is_the_highest_rank(rank: int, how: str) -> None:
    generator = torch.Generator().manual_seed(0)
    before = torch.randn(64, 576, generator=generator)
    u, v = (torch.randn(64, rank, generator=generator), torch.randn(rank, 576, generator=generator))
    assert form(there_and_back(before, before + u @ v)) == how


def test_low_rank_is_found_where_it_is_a_few_units_in_the_last_place() -> None:
    """Rounding leaves singular values up to σ(√m + √n), with σ² the mean square of x·ε over 12 (Bai & Yin 1993).

    Sixteen times as high an eigenvalue is sure, four times as high a singular value; this one is twice that.
    """
    generator = torch.Generator().manual_seed(0)
    before = torch.randn(64, 4096, generator=generator)
    noise = torch.finfo(torch.float32).eps / 12**0.5
    u, v = torch.randn(64, 1, generator=generator).double(), torch.randn(1, 4096, generator=generator).double()
    change = 8 * noise * (8 + 64) * (u / u.norm()) @ (v / v.norm())
    parts = there_and_back(before, (before.double() + change).float())
    assert form(parts) == "rank 1 and rounding"
    assert size(parts) < before.nbytes / 6


def test_a_change_within_rounding_has_no_rank() -> None:
    generator = torch.Generator().manual_seed(0)
    before = torch.randn(64, 4096, generator=generator)
    steps = torch.randint(-1, 2, before.shape, generator=generator)
    parts = there_and_back(before, before * (1 + steps * torch.finfo(torch.float32).eps))
    assert form(parts) == "bits, packed"


def test_few_entries_are_few_bytes() -> None:
    before = torch.randn(200, 300)
    after = before.clone()
    after.view(-1)[[3, 50_000]] *= 2
    parts = there_and_back(before, after)
    assert form(parts) == "2 entries"
    assert size(parts) == 2 * (4 + 4)
    assert parts["indices"].tolist() == [3, 50_000]


def test_a_change_without_structure_is_no_larger_than_the_tensor() -> None:
    generator = torch.Generator().manual_seed(0)
    before, after = (torch.randn(64, 576, generator=generator) for _ in range(2))
    parts = there_and_back(before, after)
    assert form(parts) == "bits, packed"
    assert size(parts) < 1.01 * before.nbytes


def test_signs_of_zero_and_denormal_numbers_are_kept() -> None:
    before = torch.tensor([0.0, -0.0, 1e-45, 1.0])
    parts = there_and_back(before, torch.tensor([-0.0, 0.0, -1e-45, 1e-42]))
    assert set(parts) == {"xor"}


def test_rows() -> None:
    before = {"a": torch.arange(12.0).view(6, 2), "b": torch.arange(6)}
    added = {"a": torch.full((2, 2), 9.0), "b": torch.tensor([7, 8])}
    stays = [0, 2, 3, 5]
    after = {name: torch.cat([some[stays], added[name]]) for name, some in before.items()}
    parts = changed_rows(before, after)
    assert parts["a"]["removed_at"].tolist() == [1, 4]
    for name, some in before.items():
        assert torch.equal(decoded(some, parts[name]), after[name])
        assert torch.equal(taken_back(after[name], parts[name]), some)
    grown = changed_rows(before, {name: torch.cat([some, added[name]]) for name, some in before.items()})
    assert set(grown["a"]) == {"rows"}
    assert (form(parts["a"]), form(grown["b"])) == ("2 rows, 2 fewer", "2 rows")
    assert form({"whole": before["a"]}) == "whole"
    with pytest.raises(ValueError, match="rows are not there"):
        taken_back(before["a"], parts["a"])


@pytest.mark.parametrize(
    "parts",
    [
        {"xor": torch.zeros(5, dtype=torch.uint8)},
        {"indices": torch.tensor([99]), "bits": torch.zeros(1, 4, dtype=torch.uint8)},
        {"u": torch.ones(1, 10**6, 1), "v": torch.ones(1, 1, 10**6)},
        {"u": torch.ones(2, 3, 1), "v": torch.ones(1, 1, 4)},
        {"rows": torch.zeros(1, 7)},
    ],
)
def test_parts_of_another_tensor_are_noticed_at_once(parts: dict[str, torch.Tensor]) -> None:
    with pytest.raises((ValueError, RuntimeError, IndexError, zlib.error)):
        decoded(torch.zeros(3, 4), parts)


def test_packed_bytes_that_would_fill_the_memory_are_not_unpacked() -> None:
    bomb = torch.frombuffer(bytearray(zlib.compress(bytes(10**8))), dtype=torch.uint8)
    with pytest.raises(ValueError, match="packed bytes are not as many"):
        decoded(torch.zeros(3, 4), {"xor": bomb})


def test_a_change_of_the_sign_of_zero_is_a_change() -> None:
    layer = torch.nn.Linear(2, 2)
    torch.nn.init.zeros_(layer.bias)
    patch = EditPatch.of(layer, {"bias": torch.tensor([-0.0, 0.0])})
    patch.apply_(layer)
    assert torch.signbit(layer.bias).tolist() == [True, False]
    patch.revert_(layer)
    assert torch.signbit(layer.bias).tolist() == [False, False]


@given(st.lists(st.integers(0, 3), max_size=12), st.data())
def test_rows_that_stay_are_found(values: list[int], data: st.DataObject) -> None:
    """By a plain search: those that are kept and those behind them are the rows after."""
    kept = data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values)))
    new = data.draw(st.lists(st.integers(0, 3), max_size=3))
    after = [value for value, stays in zip(values, kept, strict=True) if stays] + new
    found = staying_rows({"a": torch.tensor(values)}, {"a": torch.tensor(after)})
    number = int(found.sum())
    assert [value for value, stays in zip(values, found.tolist(), strict=True) if stays] == after[:number]
    assert number >= sum(kept), "as many as can be"
