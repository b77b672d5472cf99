"""The second moment of a stream of keys is that of all keys at once, in parts, batches and files of any kind."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from editable.errors import UserError
from editable.models import tensor_file
from editable.rewriting.memory import second_moment
from editable.rewriting.memory.second_moment import SecondMoment


def random_keys(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Keys like activations: neither centred nor of one scale."""
    keys = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (keys + 0.5).mul(torch.logspace(-2, 2, shape[-2], dtype=torch.float64)[:, None]).to(dtype)


def whole_batch(keys: torch.Tensor) -> np.ndarray:
    """The mean of k kᵀ by numpy, in extended precision, of keys [N, c, P]."""
    columns = keys.numpy().astype(np.longdouble).transpose(1, 0, 2).reshape(keys.shape[1], -1)
    return (columns @ columns.T / columns.shape[1]).astype(np.float64)


def assert_equal(moment: SecondMoment, expected: np.ndarray) -> None:
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    assert np.abs((moment.mean.numpy() - expected) / scale).max() < 1e-12


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("batch_size", [1, 3, 17, 40])
def test_streamed_equals_the_whole_batch(batch_size: int, dtype: torch.dtype):
    keys = random_keys(40, 7, 9, dtype=dtype)
    moment = SecondMoment(7)
    for batch in keys.split(batch_size):
        moment.update(batch)
    assert moment.count == 40 * 9
    assert_equal(moment, whole_batch(keys.double()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("part_values", [2**22, 500])
def test_products_in_float32_leave_the_rounding_of_float32(dtype, part_values: int, monkeypatch: pytest.MonkeyPatch):
    """As on CUDA; sums over parts are float64 and add nothing to it."""
    monkeypatch.setattr(second_moment, "product_type", lambda keys, device: torch.float32)
    monkeypatch.setattr(second_moment, "PART_VALUES", part_values)
    keys, moment = random_keys(40, 7, 9, dtype=dtype), SecondMoment(7)
    for batch in keys.split(17):
        moment.update(batch, stand_for=2 * len(batch) * 9)
    expected = whole_batch(keys.double())
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    assert 1e-12 < np.abs((moment.mean.numpy() - expected) / scale).max() < 1e-6
    assert torch.equal(moment.mean, moment.mean.T)


def test_where_products_are_in_float32():
    cpu, card, low, full = torch.device("cpu"), torch.device("cuda"), torch.float32, torch.float64
    assert [second_moment.product_type(keys, card) for keys in (torch.bfloat16, low, full)] == [low, low, full]
    assert [second_moment.product_type(keys, cpu) for keys in (torch.bfloat16, low, full)] == [full, full, full]


@pytest.mark.parametrize("num_parts", [1, 2, 4])
def test_merged_parts_equal_the_whole_batch(num_parts: int):
    keys = random_keys(26, 6, 5)
    parts = [SecondMoment(6) for _ in range(num_parts)]
    for index, batch in enumerate(keys.split(3)):
        parts[index % num_parts].update(batch)
    parts[0].merge(*parts[1:])
    assert parts[0].count == 26 * 5
    assert_equal(parts[0], whole_batch(keys))


def test_merging_leaves_the_others_as_they_are():
    first, second = SecondMoment(3), SecondMoment(3)
    first.update(random_keys(3, 4))
    second.update(random_keys(3, 5, seed=1))
    before = second.mean
    first.merge(second, SecondMoment(3))
    assert torch.equal(second.mean, before)
    assert (first.count, second.count) == (9, 5)


@pytest.mark.parametrize("block_rows", [1, 4, 7, 100])
def test_blocks_and_parts_do_not_matter(block_rows: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(second_moment, "BLOCK_ROWS", block_rows)
    monkeypatch.setattr(second_moment, "PART_VALUES", 50)
    keys = random_keys(5, 9, 4)
    moment = SecondMoment(9)
    moment.update(keys)
    assert_equal(moment, whole_batch(keys))
    assert torch.equal(moment.mean, moment.mean.T)
    assert torch.equal(moment.total, moment.total.T)


@pytest.mark.parametrize("layout", ["columns", "channels last", "expanded"])
def test_layouts(layout: str):
    keys = random_keys(2, 5, 6)
    given = {
        "columns": torch.cat([keys[0], keys[1]], dim=1),
        "channels last": keys.transpose(1, 2).contiguous().transpose(1, 2),
        "expanded": keys[:1].expand(3, -1, -1),
    }[layout]
    moment = SecondMoment(5)
    moment.update(given)
    assert_equal(moment, whole_batch(keys[:1] if layout == "expanded" else keys))


def test_keys_are_uncentred():
    moment = SecondMoment(1)
    moment.update(torch.full((1, 8), 3.0))
    assert moment.mean.item() == 9


def test_keys_with_a_graph_leave_none_behind():
    moment = SecondMoment(2)
    moment.update(torch.ones(2, 3, requires_grad=True) * 2)
    assert not moment.mean.requires_grad


def test_a_sample_is_weighted_by_what_it_stands_for():
    keys, others = random_keys(4, 3), random_keys(4, 2, seed=1)
    moment = SecondMoment(4)
    moment.update(keys, stand_for=30)
    moment.update(others)
    assert moment.count == 32
    torch.testing.assert_close(moment.total, 10 * keys @ keys.T + others @ others.T, rtol=1e-12, atol=1e-12)


def test_no_keys_add_nothing():
    moment = SecondMoment(4)
    moment.update(torch.zeros(2, 4, 0))
    assert moment.count == 0
    with pytest.raises(UserError, match="no second moment of no keys"):
        _ = moment.mean


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_keys_that_are_not_finite_change_nothing(value: float, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(second_moment, "PART_VALUES", 1)
    moment = SecondMoment(3)
    moment.update(random_keys(2, 3, 4))
    before = moment.total
    keys = random_keys(5, 3, 4)
    keys[3, 1, 2] = value
    with pytest.raises(UserError, match=r"must be finite.*1 of 5 inputs.*NaN or infinite.*number 3"):
        moment.update(keys)
    assert torch.equal(moment.total, before)
    assert moment.count == 8


def test_finite_keys_whose_sum_overflows_are_fine():
    largest = torch.finfo(torch.float32).max
    moment = SecondMoment(1)
    moment.update(torch.full((1, 2), largest))
    assert moment.mean.item() == pytest.approx(largest**2, rel=1e-12)


@pytest.mark.parametrize("keys", [torch.zeros(4, 2), torch.zeros(3), torch.zeros(1, 2, 3), torch.zeros(3, 2).long()])
def test_keys_of_another_kind(keys: torch.Tensor):
    with pytest.raises(UserError, match=r"\[3, S\] or \[N, 3, P\], got shape"):
        SecondMoment(3).update(keys)


def test_impossible_numbers():
    with pytest.raises(UserError, match="key_size must be at least 1, got 0"):
        SecondMoment(0)
    with pytest.raises(UserError, match="3 keys cannot be a sample of 2"):
        SecondMoment(2).update(torch.zeros(2, 3), stand_for=2)
    with pytest.raises(UserError, match="0 keys cannot be a sample of 2"):
        SecondMoment(2).update(torch.zeros(2, 0), stand_for=2)
    with pytest.raises(UserError, match="sizes 2 and 3"):
        SecondMoment(2).merge(SecondMoment(2), SecondMoment(3))


@pytest.mark.parametrize(
    ("total", "message"),
    [
        (torch.zeros(2, 3), r"square matrix \[c, c\], got shape \[2, 3\]"),
        (torch.tensor([[1.0, 2.0], [3.0, 1.0]]), "symmetric"),
        (torch.full((2, 2), float("nan")), "finite"),
    ],
)
def test_what_is_no_sum_of_products(total: torch.Tensor, message: str):
    with pytest.raises(UserError, match=message):
        SecondMoment.from_total(total, 1)


@pytest.mark.parametrize(
    ("count", "message"), [(-1, "count must be at least 0"), (2**63, f"at most {2**63 - 1}"), (1.5, "a whole number")]
)
def test_what_is_no_number_of_keys(count: float, message: str):
    """A file holds the number as int64."""
    with pytest.raises(UserError, match=message):
        SecondMoment.from_total(torch.eye(2), count)
    assert SecondMoment.from_total(torch.eye(2), 2**63 - 1).count == 2**63 - 1


def test_a_sum_reduced_over_processes():
    keys = random_keys(2, 3, 4)
    moment = SecondMoment.from_total(sum(part @ part.T for part in keys), 8)
    assert_equal(moment, whole_batch(keys))
    moment.update(keys[0])
    assert_equal(moment, whole_batch(torch.cat([keys, keys[:1]])))


def test_a_file_gives_back_the_very_bits(tmp_path: Path):
    path = tmp_path / "cache" / "moment.safetensors"
    moment = SecondMoment(5)
    moment.update(random_keys(3, 5, 7))
    moment.save(path, {"layer": "conv", "images": 3})
    loaded, fingerprint = SecondMoment.load(path)
    assert torch.equal(loaded.total, moment.total)
    assert loaded.count == moment.count == 21
    assert fingerprint == {"layer": "conv", "images": "3"}
    assert os.listdir(path.parent) == ["moment.safetensors"]
    for each in (moment, loaded):
        each.update(random_keys(5, 2, seed=1))
    assert torch.equal(loaded.total, moment.total)


def test_an_interrupted_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "moment.safetensors"
    SecondMoment.from_total(torch.eye(2), 1).save(path)

    def half(tensors: object, file: Path, metadata: object) -> None:
        Path(file).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(tensor_file, "save_file", half)
    with pytest.raises(KeyboardInterrupt):
        SecondMoment.from_total(2 * torch.eye(2), 1).save(path)
    assert os.listdir(tmp_path) == ["moment.safetensors"]
    assert SecondMoment.load(path)[0].total[0, 0] == 1


def test_files_that_hold_none(tmp_path: Path):
    path = tmp_path / "moment.safetensors"
    with pytest.raises(UserError, match="there is no second moment at"):
        SecondMoment.load(path)
    SecondMoment.from_total(torch.eye(20), 1).save(path)
    whole = path.read_bytes()
    for broken in (whole[:-1], whole[:50], b"", b"\xff" * 100):
        path.write_bytes(broken)
        with pytest.raises(UserError, match="no complete safetensors file"):
            SecondMoment.load(path)
    save_file({"weight": torch.eye(2)}, path)
    with pytest.raises(UserError, match="holds no second moment"):
        SecondMoment.load(path)
    for total, count in ((torch.ones(2, 3), 1), (torch.eye(2), -1), (torch.eye(2).log(), 1)):
        save_file({"total": total, "count": torch.tensor(count)}, path)
        with pytest.raises(UserError, match="holds no second moment:"):
            SecondMoment.load(path)
