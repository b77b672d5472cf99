"""A table of images with the labels asked for."""

from pathlib import Path

import pytest

from editable.data.edits.asked_table import read_asked_table
from editable.errors import UserError

NAMES = ["cat/a.png", "cat/b.png", "dog/é.png", "007"]


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("fixes").mkdir()
    for path in ("mine.png", "fixes/beside.png"):
        Path(path).write_bytes(b"")


def table(text: str) -> str:
    Path("fixes/table.csv").write_text(text, encoding="utf-8")
    return "fixes/table.csv"


def test_files_names_and_positions():
    lines = "image,label\nmine.png,dog\nbeside.png,003\ncat/b.png,null\ndog/e\u0301.png,cat\n0,1\n007,x\n"
    images, labels = read_asked_table(table(lines), NAMES)
    assert images == ["mine.png", "fixes/beside.png", 1, 2, 0, 3]
    assert labels == ["dog", "003", "null", "cat", "1", "x"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,label\n", "has no edits"),
        ("picture,label\n1,2\n", "image"),
        ("image,label\nnone.png,cat\n", "line 2 .* has the image 'none.png', which is no file, and none of the 4 test"),
        ("image,label\n4,cat\n", "has the image '4'"),
        ("image,label\n-1,cat\n", "has the image '-1'"),
        ("image,label\n0,cat\ncat/a.png,cat\n", "line 3 .* has the image 'cat/a.png' of line 2 once more"),
        ("image,label\n0,\n", "line 2 .* has no label"),
        ("image,label\n,cat\n", "line 2 .* has no image"),
        ("image,label\n0,cat,1\n", "line 2 .* has 3 cells"),
        ('image,label\n"0,cat\n', "cannot be read as CSV"),
    ],
)
def test_mistakes_end_in_one_sentence(text: str, message: str):
    with pytest.raises(UserError, match=message):
        read_asked_table(table(text), NAMES)


def test_no_table():
    with pytest.raises(UserError, match="there is no table of edits at 'nowhere"):
        read_asked_table("nowhere.csv", NAMES)
