"""Files of text and JSON that users give: read as they are, or refused in one sentence."""

import os
import socket
import time
from pathlib import Path

import pytest

from editable.errors import UserError
from editable.text_files import parse_json, read_json, read_text, require_file, require_keys


def test_text_is_read_without_a_byte_order_mark(tmp_path: Path):
    (tmp_path / "a.txt").write_bytes("\ufeffmünchen 猫".encode())
    assert read_text(tmp_path / "a.txt") == "münchen 猫"


def test_what_is_no_file_ends_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    Path("folder").mkdir()
    with socket.socket(socket.AF_UNIX) as there:
        there.bind("socket")
        start = time.monotonic()
        kinds = {"pipe": "a named pipe", "folder": "a folder", "socket": "a socket", "/dev/zero": "a device"}
        for path, kind in kinds.items():
            with pytest.raises(UserError, match=f"'{path}' is {kind}, but must be a file"):
                read_json(path)
        assert time.monotonic() - start < 1
    require_file("folder", or_folder=True)
    with pytest.raises(FileNotFoundError):
        read_text("nowhere")


def test_bytes_that_are_no_text(tmp_path: Path):
    (tmp_path / "a.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(UserError, match=r"a.json' is no text in UTF-8: its byte 7 cannot be read"):
        read_json(tmp_path / "a.json")
    with pytest.raises(UserError, match="cannot be read"):
        read_text(tmp_path / ("x" * 300))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("NaN", "'x' has the number NaN, but numbers must be finite"),
        ("[-Infinity]", "'x' has the number -Infinity"),
        ("[1e400]", "'x' has the number 1e400"),
        ('{"a": {"b": 1, "c": 2, "b": 3}}', "'x' has the key 'b' twice in one place"),
        ("[" * 100_000, "nested too deeply"),
        ("1" * 5000, "cannot be read as JSON"),
    ],
)
def test_json_that_cannot_be_meant(text: str, message: str):
    with pytest.raises(UserError, match=message) as raised:
        parse_json(text, "x")
    assert "\n" not in str(raised.value)


def test_keys_that_nobody_reads():
    require_keys(["polygon"], ["polygon", "box"], "the entry")
    with pytest.raises(UserError, match="the entry has the unknown key 'polygn': did you mean 'polygon'"):
        require_keys(["box", "polygn"], ["polygon", "box"], "the entry")
    with pytest.raises(UserError, match="unknown key 'colour': known are box, polygon"):
        require_keys(["colour"], ["polygon", "box"], "the entry")
