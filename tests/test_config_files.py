"""Configuration files that cannot be meant end in one sentence, at once."""

import os
import time
from pathlib import Path

import pytest

from tests.mistakes import error_line


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def laughs(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    return "\n".join(lines + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels)])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            "evaluation:\n  num_edits: 5\n  num_edits: 6\n",
            "'run.yaml' has the key 'num_edits' twice in one place, in li",
        ),
        ("trainer: &t\n  max_epochs: *t\n", "the anchor in line 1 of 'run.yaml' refers to itself"),
        (laughs(9), "'run.yaml' has more than 100000 values, with those that its anchors repeat"),
        ("[" * 5000, "exceeded maximum nesting depth"),
        ("seed_everything: \xff".encode("latin-1"), "'run.yaml' is no text in UTF-8: its byte 17 cannot be read"),
        ("seed_everythin: 0", "seed_everythin"),
        ("# nothing\n", "Unexpected config"),
        ("a", "Unexpected config"),
        ("{", "Problems parsing config"),
    ],
)
def test_files_that_cannot_be_meant(content: str | bytes, sentence: str, capsys: pytest.CaptureFixture):
    Path("run.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    start = time.monotonic()
    assert sentence in error_line(["test", "--config=run.yaml"], capsys)
    assert time.monotonic() - start < 20  # making the parser is most of it


@pytest.mark.parametrize("option", [["--config", "pipe"], ["--config=pipe"], ["--model=pipe"], ["--data.root", "pipe"]])
def test_a_named_pipe_is_not_waited_for(option: list[str], capsys: pytest.CaptureFixture):
    os.mkfifo("pipe")
    assert "error: 'pipe' is a named pipe, but must be a file" in error_line(["test", *option], capsys)


def test_a_device_is_not_read(capsys: pytest.CaptureFixture):
    assert "'/dev/zero' is a device, but must be a file" in error_line(["fit", "--config=/dev/zero"], capsys)


def test_a_folder_is_no_configuration(tmp_path: Path, capsys: pytest.CaptureFixture):
    assert "Path is not a file" in error_line(["fit", f"--config={tmp_path}"], capsys)
