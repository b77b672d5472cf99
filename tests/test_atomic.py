"""A file is written whole or not at all."""

import errno
import os
import stat
import time
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from editable.atomic import is_disk_full, write_atomically
from editable.errors import UserError


@pytest.fixture(params=[0o022, 0o077, 0o002])
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.mark.parametrize("path_type", [str, Path])
def test_writes(path_type: type, tmp_path: Path):
    path = tmp_path / "metrics.json"
    with write_atomically(path_type(path)) as temporary:
        temporary.write_text("{}")
        assert not path.exists()
        assert temporary.parent == path.parent  # the same file system, so that replacing is atomic
        assert temporary.suffix == ".json"  # writers look at the extension
    assert path.read_text() == "{}"
    assert os.listdir(tmp_path) == ["metrics.json"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("old", ["old", None])
def test_an_interrupted_writer_leaves_what_was_there(error: type[BaseException], old: str | None, tmp_path: Path):
    path = tmp_path / "metrics.json"
    if old is not None:
        path.write_text(old)

    def interrupted() -> None:
        with write_atomically(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        interrupted()
    assert os.listdir(tmp_path) == ([] if old is None else ["metrics.json"])
    if old is not None:
        assert path.read_text() == old


def test_replaces_the_old_file(tmp_path: Path):
    path = tmp_path / "metrics.json"
    for text in ("a long first version", "short"):
        with write_atomically(path) as temporary:
            temporary.write_text(text)
        assert path.read_text() == text


@pytest.mark.skipif(os.name != "posix", reason="permission bits are POSIX's")
def test_permissions_honour_the_umask(umask: int, tmp_path: Path):
    atomic, plain = tmp_path / "atomic.json", tmp_path / "plain.json"
    with write_atomically(atomic) as temporary:
        temporary.write_text("{}")
    plain.write_text("{}")
    assert stat.S_IMODE(atomic.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode) == 0o666 & ~umask
    now = os.umask(umask)
    assert now == umask


def test_parents_are_made(tmp_path: Path):
    path = tmp_path / "runs" / "first" / "metrics.json"
    with write_atomically(path) as temporary:
        temporary.write_text("{}")
    assert path.read_text() == "{}"


def test_two_writers_do_not_meet(tmp_path: Path):
    path = tmp_path / "metrics.json"
    with write_atomically(path) as first, write_atomically(path) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"  # the outer block ends last
    assert os.listdir(tmp_path) == ["metrics.json"]


def full(number: int) -> OSError:
    return OSError(number, os.strerror(number))


class Full:
    """A file on a full disk."""

    def write(self, some: bytes) -> int:
        raise full(errno.ENOSPC)

    def flush(self) -> None: ...


WRITERS = {
    "python": lambda path: path.open("w").close() or (_ for _ in ()).throw(full(errno.ENOSPC)),
    "torch": lambda path: torch.save({"a": torch.zeros(1000)}, Full()),
    "safetensors": lambda path: (_ for _ in ()).throw(
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    ),
}


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS.keys())
def test_a_full_disk_is_named_whoever_writes(writer, tmp_path: Path):
    path = tmp_path / "weights.bin"
    path.write_text("old")

    def write() -> None:
        with write_atomically(path) as temporary:
            writer(temporary)

    with pytest.raises(UserError, match=rf"no space is left for '{path}', which stays as it was"):
        write()
    assert os.listdir(tmp_path) == ["weights.bin"]
    assert path.read_text() == "old"


def test_a_place_that_cannot_be_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    for path, number in (
        (tmp_path / "file" / "x.json", errno.ENOTDIR),
        (tmp_path / ("x" * 300) / "x.json", errno.ENAMETOOLONG),
    ):
        with pytest.raises(OSError, match=r"x\.json") as raised, write_atomically(path):
            pass
        assert (raised.value.errno, raised.value.filename) == (number, str(path))


def test_an_error_that_is_not_of_writing_stays_what_it_is(tmp_path: Path):
    for error in (FileNotFoundError(errno.ENOENT, "no such file", "elsewhere"), RuntimeError("of the writer")):
        with pytest.raises(type(error)) as raised, write_atomically(tmp_path / "x.json"):
            raise error
        assert raised.value is error


def test_both_file_and_folder_are_brought_to_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path, synced = tmp_path / "metrics.json", []

    def note(handle: int) -> None:
        target = Path(os.readlink(f"/proc/self/fd/{handle}"))
        synced.append((target.is_dir(), path.exists()))

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc")
    monkeypatch.setattr(os, "fsync", note)
    with write_atomically(path) as temporary:
        temporary.write_text("{}")
    assert synced == [(False, False), (True, True)]  # the file before it is renamed, the folder after
    with write_atomically(path, durable=False) as temporary:
        temporary.write_text("{}")
    assert len(synced) == 2


def test_a_killed_writers_file_goes_when_the_path_is_written_again(tmp_path: Path):
    pytest.importorskip("fcntl")
    path = tmp_path / "last.ckpt"
    old, young, other = (tmp_path / name for name in (".last-old.ckpt", ".last-young.ckpt", ".first-old.ckpt"))
    for leftover in (old, young, other):
        leftover.write_text("half")
    for leftover in (old, other):
        os.utime(leftover, (time.time() - 100,) * 2)
    with write_atomically(path) as living:
        os.utime(living, (time.time() - 100,) * 2)
        with write_atomically(path) as temporary:
            temporary.write_text("inner")
        living.write_text("outer")  # was not removed: its writer lives
    assert path.read_text() == "outer"
    assert {some.name for some in tmp_path.iterdir()} == {"last.ckpt", young.name, other.name}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_no_space_is_a_sentence(code: int, tmp_path: Path):
    path = tmp_path / "metrics.json"
    path.write_text("old")

    def full() -> None:
        with write_atomically(path) as temporary:
            temporary.write_text("half")
            raise OSError(code, os.strerror(code))

    with pytest.raises(UserError, match=f"no space is left for '{path}'"):
        full()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["metrics.json"]


def test_who_says_so_in_words_or_has_it_from_another_is_understood():
    assert is_disk_full(RuntimeError("I/O error: No space left on device (os error 28)"))
    error = ValueError("wrapped")
    error.__cause__ = OSError(errno.ENOSPC, "")
    assert is_disk_full(error)
    assert not is_disk_full(OSError(errno.EACCES, ""))
