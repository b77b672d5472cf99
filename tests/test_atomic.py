"""A file is written whole or not at all."""

import errno
import os
import stat
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from editable.atomic import write_atomically
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
