"""A second moment on disk is used for exactly what it was made from, and for nothing else."""

from pathlib import Path

import pytest
import torch

from editable.errors import UserError
from editable.rewriting.memory.moment_cache import cached_second_moment
from editable.rewriting.memory.second_moment import SecondMoment
from tests.warned import no_warning, one_warning

IDENTITY = {"upstream": "0123abcd", "layer": "layer2.0.conv1", "data": "4567", "images": 1000}


class Collect:
    """Counts how often it is called; each second moment is another one."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> SecondMoment:
        self.calls += 1
        return SecondMoment.from_total(self.calls * torch.eye(3), 1)


def value(moment: SecondMoment) -> float:
    return moment.mean[0, 0].item()


def test_collects_once(tmp_path: Path):
    collect = Collect()
    with no_warning():
        for _ in range(3):
            assert value(cached_second_moment(tmp_path / "new", IDENTITY, collect)) == 1
        reordered = {**dict(reversed(IDENTITY.items())), "images": "1000"}
        assert value(cached_second_moment(tmp_path / "new", reordered, collect)) == 1
    assert collect.calls == 1
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["second_moment.safetensors"]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"upstream": "ffff"}, "upstream '0123abcd' in place of 'ffff'"),
        ({"images": 999}, "images '1000' in place of '999'"),
        (
            {"layer": "layer3", "data": "89"},
            "layer 'layer2.0.conv1' in place of 'layer3', data '4567' in place of '89'",
        ),
        ({"positions": 16}, "positions unknown in place of '16'"),
    ],
)
def test_a_stale_or_foreign_one_is_refused(other: dict, message: str, tmp_path: Path):
    collect = Collect()
    cached_second_moment(tmp_path, IDENTITY, collect)
    with one_warning(f"{message}: it is not used") as caught:
        assert value(cached_second_moment(tmp_path, IDENTITY | other, collect)) == 2
    assert "second_moment.safetensors" in str(caught[0].message)
    assert caught[0].filename == __file__
    with no_warning():
        assert value(cached_second_moment(tmp_path, IDENTITY | other, collect)) == 2


def test_one_that_was_made_with_something_more_is_refused(tmp_path: Path):
    cached_second_moment(tmp_path, IDENTITY | {"positions": 16}, Collect())
    with pytest.warns(UserWarning, match="made with positions '16' in place of unknown"):
        cached_second_moment(tmp_path, IDENTITY, Collect())


@pytest.mark.parametrize("length", [0, 10, -1])
def test_a_broken_file_is_computed_anew(length: int, tmp_path: Path):
    collect = Collect()
    cached_second_moment(tmp_path, IDENTITY, collect)
    path = tmp_path / "second_moment.safetensors"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.warns(UserWarning, match="no complete safetensors file.*computed anew"):
        assert value(cached_second_moment(tmp_path, IDENTITY, collect)) == 2
    assert value(cached_second_moment(tmp_path, IDENTITY, collect)) == 2


def test_several_lie_side_by_side(tmp_path: Path):
    collect = Collect()
    for name in ("layer2.0.conv1-pixel", "layer3.0.conv1-pixel") * 2:
        cached_second_moment(tmp_path, {"layer": name}, collect, name)
    assert collect.calls == 2
    assert (tmp_path / "layer2.0.conv1-pixel.safetensors").is_file()


def test_a_folder_that_cannot_be_written_to(tmp_path: Path):
    (tmp_path / "file").write_text("no folder")
    with pytest.warns(UserWarning, match="cannot be kept as .*file"):
        assert value(cached_second_moment(tmp_path / "file", IDENTITY, Collect())) == 1


def test_an_error_while_collecting_keeps_nothing(tmp_path: Path):
    def fail() -> SecondMoment:
        raise UserError("no image")

    with pytest.raises(UserError, match="no image"):
        cached_second_moment(tmp_path, IDENTITY, fail)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["", "a/b", "../a", "/absolute"])
def test_names_that_are_no_file_name(name: str, tmp_path: Path):
    with pytest.raises(UserError, match="plain file name"):
        cached_second_moment(tmp_path, IDENTITY, Collect(), name)
