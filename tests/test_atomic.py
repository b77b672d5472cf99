"""A file is written whole or not at all."""

import os
import stat
from pathlib import Path

import pytest

from editable.atomic import write_atomically


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
