"""`FeatureStore` gives back the bits it was given, from memory and from disk alike, and leaves no file behind."""

import errno
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from editable.editing.evaluation.feature_store import FeatureStore
from editable.errors import UserError

CPU = torch.device("cpu")
ROWS = 11
ROW_BYTES = 3 * 4 * 5 * 4 + 7 * 2 + 6 * 8 + 2 * 1 + 4
Data = tuple[tuple[Tensor, ...], Tensor]

in_memory_and_on_disk = pytest.mark.parametrize("spilled", [False, True], ids=["memory", "disk"])
both_formats = pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def example(rows: int = ROWS, device: torch.device = CPU) -> Data:
    """Features of five dtypes and four ranks, with values that arithmetic or a conversion would change."""
    random = torch.Generator().manual_seed(0)
    images = torch.randn(rows, 3, 4, 5, generator=random)
    images[0, 0, 0, :4] = torch.tensor([float("nan"), float("inf"), -0.0, 1e-45])
    images[0, 0, 1, 0] = torch.tensor(0x7FC12345, dtype=torch.int32).view(torch.float32)  # a NaN with a payload
    features = (
        images,
        torch.randn(rows, 7, generator=random).bfloat16(),
        torch.randint(-(2**62), 2**62, (rows, 2, 3), generator=random),
        torch.rand(rows, 2, generator=random) > 0.5,
        torch.randn(rows, generator=random),
    )
    labels = torch.randint(0, 10, (rows,), generator=random)
    return tuple(feature.to(device) for feature in features), labels.to(device)


def filled(
    folder: Path, spilled: bool, data: Data, num_rows: int = ROWS, device: torch.device = CPU, **settings
) -> FeatureStore:
    """Store the data in parts of 4, 0, 1, and the remaining rows."""
    store = FeatureStore(num_rows, 0 if spilled else 2**20, device, folder, **settings)
    features, labels = data
    for start, stop in ((0, 4), (4, 4), (4, 5), (5, len(labels))):
        store.add(tuple(feature[start:stop] for feature in features), labels[start:stop])
    assert store.spilled == spilled
    return store


def bits(tensor: Tensor) -> Tensor:
    return tensor.contiguous().flatten().view(torch.uint8)


def assert_same(found: Data, features: tuple[Tensor, ...], labels: Tensor) -> None:
    for ours, theirs in zip((*found[0], found[1]), (*features, labels), strict=True):
        assert ours.shape == theirs.shape
        assert ours.dtype == theirs.dtype
        assert ours.device == theirs.device
        assert torch.equal(bits(ours), bits(theirs))


def check_contents(store: FeatureStore, features: tuple[Tensor, ...], labels: Tensor) -> None:
    """Batches of several sizes, and rows in several orders, equal plain slicing and indexing of what was added."""
    assert len(store) == len(labels)
    assert torch.equal(store.labels, labels)
    for size in (1, 3, len(labels), 100):
        starts = range(0, len(labels), size)
        for start, found in zip(starts, store.batches(size), strict=True):
            assert_same(
                found, tuple(feature[start : start + size] for feature in features), labels[start : start + size]
            )
    for order in ([2], [7, 0, 7, 3, 3, 8], list(reversed(range(len(labels)))), []):
        indices = torch.tensor(order, dtype=torch.int64)
        there = indices.to(labels.device)
        for given in (indices, there):
            assert_same(store.rows(given), tuple(feature[there] for feature in features), labels[there])


@in_memory_and_on_disk
@both_formats
def test_gives_back_what_was_added(tmp_path: Path, spilled: bool, memory_format: torch.memory_format) -> None:
    data = example()
    with filled(tmp_path, spilled, data, memory_format=memory_format) as store:
        check_contents(store, *data)


@in_memory_and_on_disk
def test_does_not_share_memory_with_what_was_added(tmp_path: Path, spilled: bool) -> None:
    data = example()
    with filled(tmp_path, spilled, data) as store:
        for tensor in (*data[0], data[1]):
            tensor.zero_()
        check_contents(store, *example())


@in_memory_and_on_disk
def test_never_returns_the_unused_end(tmp_path: Path, spilled: bool) -> None:
    data = example()
    with filled(tmp_path, spilled, data, num_rows=ROWS + 5) as store:
        check_contents(store, *data)
        with pytest.raises(IndexError, match=f"{ROWS} rows.*from 1 to {ROWS}"):
            store.rows(torch.tensor([1, ROWS]))


@in_memory_and_on_disk
@both_formats
@pytest.mark.parametrize("added", [torch.contiguous_format, torch.channels_last], ids="added {}".format)
def test_memory_format(
    tmp_path: Path, spilled: bool, memory_format: torch.memory_format, added: torch.memory_format
) -> None:
    (images, *others), labels = example()
    data = ((images.contiguous(memory_format=added), *others), labels)
    with filled(tmp_path, spilled, data, memory_format=memory_format) as store:
        for features, _ in [*store.batches(1), *store.batches(4), store.rows(torch.tensor([7, 0, 7]))]:
            assert features[0].is_contiguous(memory_format=memory_format)
            assert all(feature.is_contiguous() for feature in features[1:])
        (batch, *_), _ = next(store.batches(4))
        assert (
            batch.stride()
            == {torch.contiguous_format: (60, 20, 5, 1), torch.channels_last: (60, 1, 15, 3)}[memory_format]
        )


@in_memory_and_on_disk
@both_formats
def test_batches_on_the_cpu_are_views(tmp_path: Path, spilled: bool, memory_format: torch.memory_format) -> None:
    with filled(tmp_path, spilled, example(), memory_format=memory_format) as store:
        first, again = (next(store.batches(3))[0] for _ in range(2))
        assert [feature.data_ptr() for feature in first] == [feature.data_ptr() for feature in again]


@in_memory_and_on_disk
def test_features_with_gradients_are_stored_without(tmp_path: Path, spilled: bool) -> None:
    with FeatureStore(2, 0 if spilled else 100, CPU, tmp_path) as store:
        store.add((torch.ones(2, 3, requires_grad=True) * 2,), torch.zeros(2, dtype=torch.int64))
        assert not store.rows(torch.tensor([1]))[0][0].requires_grad


@pytest.mark.parametrize(("short", "spilled"), [(0, False), (1, True)])
def test_budget_to_the_byte(tmp_path: Path, short: int, spilled: bool) -> None:
    features, labels = example()
    with FeatureStore(ROWS, ROWS * ROW_BYTES - short, CPU, tmp_path) as store:
        assert (store.nbytes, store.spilled) == (0, False)
        store.add(tuple(feature[:1] for feature in features), labels[:1])
        assert (store.nbytes, store.spilled) == (ROWS * ROW_BYTES, spilled)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="reads the maps of a process from Linux")
@pytest.mark.parametrize("num_files", [0, 5])
def test_the_map_lies_in_the_folder(tmp_path: Path, num_files: int) -> None:
    with filled(tmp_path, num_files > 0, example()):
        maps = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
        assert sum(str(tmp_path) in line for line in maps) == num_files
    assert str(tmp_path) not in Path("/proc/self/maps").read_text(encoding="utf-8")


@pytest.mark.skipif(os.name != "posix", reason="a mapped file cannot be removed elsewhere")
def test_even_a_killed_process_leaves_nothing_behind(tmp_path: Path) -> None:
    with filled(tmp_path, True, example()):
        assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")
@pytest.mark.parametrize("os_name", [os.name, "one where mapped files need their names"])
@pytest.mark.parametrize("end", ["close", "deletion", "exception"])
def test_leaves_the_folder_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, os_name: str, end: str) -> None:
    monkeypatch.setattr("editable.editing.evaluation.feature_store.os", SimpleNamespace(name=os_name))
    store = filled(tmp_path, True, example())
    assert bool(list(tmp_path.iterdir())) == (os_name != "posix")
    if end == "close":
        store.close()
        store.close()
    elif end == "deletion":
        del store
    else:
        with pytest.raises(ZeroDivisionError), store:
            raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_views_outlive_the_store(tmp_path: Path) -> None:
    data = example()
    with filled(tmp_path, True, data) as store:
        found, later = next(store.batches(ROWS)), store.batches(ROWS)
    assert_same(found, *data)
    assert_same(next(later), *data)


def test_a_disk_without_room_is_a_users_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=3 * 2**29))
    store = FeatureStore(2**20, 2**29, CPU, tmp_path)  # 1.5 GiB are free, 1.5 GiB are needed
    with pytest.raises(UserError, match=r"need 1\.50 GiB.*budget of 0\.50 GiB.*1\.50 GiB are free.*raise the") as error:
        store.add((torch.zeros(1, 384),), torch.zeros(1, dtype=torch.int64))
    assert str(tmp_path) in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="needs posix_fallocate")
def test_a_full_quota_is_a_users_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: int, start: int, size: int) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(UserError, match="Disk quota exceeded"):
        filled(tmp_path, True, example())
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="needs posix_fallocate")
def test_reserves_the_space_of_all_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = SimpleNamespace(name="one where mapped files need their names", posix_fallocate=os.posix_fallocate)
    monkeypatch.setattr("editable.editing.evaluation.feature_store.os", named)
    with FeatureStore(2**8, 0, CPU, tmp_path) as store:
        store.add((torch.zeros(1, 2**10),), torch.zeros(1, dtype=torch.int64))
        (file,) = (path for path in tmp_path.rglob("*") if path.is_file())
        assert file.stat().st_size == 2**20
        assert file.stat().st_blocks * 512 >= 2**20


def test_a_missing_folder_is_a_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere.*No such file or directory"):
        filled(tmp_path / "nowhere", True, example())


@in_memory_and_on_disk
def test_add_rejects_what_does_not_fit(tmp_path: Path, spilled: bool) -> None:
    with FeatureStore(3, 0 if spilled else 100, CPU, tmp_path) as store:
        one, two = torch.zeros(1, dtype=torch.int64), torch.zeros(2, dtype=torch.int64)
        with pytest.raises(UserError, match=r"2 labels need as many rows of features, got \[2, 1\]"):
            store.add((torch.zeros(2, 4), torch.zeros(1, 4)), two)
        store.add((torch.zeros(2, 4),), two)
        with pytest.raises(UserError, match=r"must stay \[4\] of torch.float32, got \[5\] of torch.float32"):
            store.add((torch.zeros(1, 5),), one)
        with pytest.raises(UserError, match=r"must stay \[4\] of torch.float32, got \[4\] of torch.float64"):
            store.add((torch.zeros(1, 4).double(),), one)
        with pytest.raises(UserError, match="got nothing"):
            store.add((), one)
        with pytest.raises(UserError, match="room for 3 rows was asked for, got at least 4"):
            store.add((torch.zeros(2, 4),), two)
        store.add((torch.ones(1, 4),), one)
        assert torch.equal(store.rows(torch.tensor([2, 1]))[0][0], torch.tensor([[1.0] * 4, [0.0] * 4]))


@in_memory_and_on_disk
@pytest.mark.parametrize("indices", [[0, -1], [ROWS]])
def test_rows_rejects_what_is_not_there(tmp_path: Path, spilled: bool, indices: list[int]) -> None:
    with filled(tmp_path, spilled, example()) as store, pytest.raises(IndexError, match=f"{ROWS} rows"):
        store.rows(torch.tensor(indices))


def test_an_empty_store_has_no_batches() -> None:
    with FeatureStore(0, 0, CPU) as store:
        assert not list(store.batches(3))
        with pytest.raises(IndexError, match="0 rows"):
            store.rows(torch.tensor([0]))


@in_memory_and_on_disk
def test_a_closed_store_gives_nothing(tmp_path: Path, spilled: bool) -> None:
    store = filled(tmp_path, spilled, example())
    store.close()
    for use in (lambda: store.batches(3), lambda: store.rows(torch.tensor([0])), lambda: store.add(*example(1))):
        with pytest.raises(ValueError, match="closed"):
            use()


def test_rejects_impossible_settings() -> None:
    with pytest.raises(UserError, match="num_rows"):
        FeatureStore(-1, 0, CPU)
    with pytest.raises(UserError, match="memory_budget"):
        FeatureStore(1, -1, CPU)
    with pytest.raises(UserError, match="memory_format"):
        FeatureStore(1, 1, CPU, memory_format=torch.channels_last_3d)
    with pytest.raises(UserError, match="size"):
        FeatureStore(1, 1, CPU).batches(0)


@pytest.mark.gpu
@needs_gpu
@in_memory_and_on_disk
@both_formats
def test_on_the_gpu(tmp_path: Path, spilled: bool, memory_format: torch.memory_format) -> None:
    device = torch.device("cuda", 0)
    data = example(device=device)
    with filled(tmp_path, spilled, data, device=device, memory_format=memory_format) as store:
        check_contents(store, *data)
        for features, _ in [*store.batches(4), store.rows(torch.tensor([7, 0, 7]))]:
            assert features[0].is_contiguous(memory_format=memory_format)
