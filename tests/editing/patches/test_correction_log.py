"""The log of corrections: whole lines whatever happens, from several processes, and readable after a power cut."""

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from editable.editing import EditPatch, EditRecord
from editable.editing.patches.correction_log import append_corrections, entries_of, log_path, read_log
from editable.errors import UserError
from tests.editing.patches.kinds import made
from tests.warned import TORN_LINES


def entry(number: int, size: int = 0) -> dict[str, object]:
    return {"number": number, "asked": [f"bild-ä.png: Kätzchen → {'x' * size}\n"]}


def test_what_is_appended_is_read_in_its_order(tmp_path: Path) -> None:
    path = log_path(tmp_path / "logs", "abc")
    assert path == tmp_path / "logs" / "abc.jsonl"
    append_corrections(path, [entry(0)])
    append_corrections(path, [entry(1), entry(2)])
    assert read_log(path) == [entry(0), entry(1), entry(2)]
    assert "Kätzchen" in path.read_text(encoding="utf-8"), "for people to read"
    assert len(path.read_text(encoding="utf-8").splitlines()) == 3


@pytest.mark.filterwarnings(TORN_LINES)
def test_a_power_cut_at_any_byte_of_the_last_line(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    append_corrections(path, [entry(0), entry(1)])
    start = path.stat().st_size
    append_corrections(path, [entry(2)])
    whole = path.read_bytes()
    for length in range(start, len(whole) + 1):
        path.write_bytes(whole[:length])
        found = read_log(path)
        assert found[:2] == [entry(0), entry(1)]
        assert found[2:] == ([entry(2)] if length >= len(whole) - 1 else [])
        append_corrections(path, [entry(3)])
        assert read_log(path) == [*found, entry(3)], "the next line begins anew"


def test_torn_lines_are_counted_in_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    append_corrections(path, [entry(0)])
    path.write_bytes(path.read_bytes() + b'{"number": 1, "as')
    with pytest.warns(UserWarning, match="has 1 torn lines, which are passed over"):
        assert read_log(path) == [entry(0)]


def test_empty_lines_are_passed_over_without_a_word(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    append_corrections(path, [entry(0)])
    path.write_bytes(path.read_bytes() + b"\n  \n")
    append_corrections(path, [entry(1)])
    assert read_log(path) == [entry(0), entry(1)]


def append_many(path: Path, first: int, number: int) -> None:
    for position in range(first, first + number):
        append_corrections(path, [entry(position, 300)])


def test_processes_that_append_at_the_same_time(tmp_path: Path) -> None:
    path, context = tmp_path / "log.jsonl", multiprocessing.get_context("fork")
    workers = [context.Process(target=append_many, args=(path, 100 * some, 40)) for some in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    found = [some["number"] for some in read_log(path)]
    assert sorted(found) == [100 * some + number for some in range(4) for number in range(40)]
    for some in range(4):
        own = [number for number in found if number // 100 == some]
        assert own == sorted(own)


def test_kills(tmp_path: Path) -> None:
    path, context = tmp_path / "log.jsonl", multiprocessing.get_context("fork")
    last: list[dict[str, object]] = []
    for attempt in range(12):
        worker = context.Process(target=append_many, args=(path, 1000 * attempt, 900))
        size = path.stat().st_size if path.exists() else 0
        worker.start()
        while worker.is_alive() and (path.stat().st_size if path.exists() else 0) == size:  # also on a busy machine
            time.sleep(0.001)
        time.sleep(0.007 * attempt)
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        worker.join(60)
        found = read_log(path) if path.exists() else []
        assert found[: len(last)] == last, "what was there stays"
        numbers = [some["number"] for some in found[len(last) :]]
        assert numbers == list(range(1000 * attempt, 1000 * attempt + len(numbers)))
        last = found
    assert len(last) >= 12


def test_what_it_says_of_a_patch(tmp_path: Path) -> None:
    patch, _, _ = made("codebook")
    (line,) = entries_of(patch, "runs/a/edit.safetensors", "edit", "0123")
    assert json.loads(json.dumps(line)) == line
    expected = {
        "command": "edit",
        "asked": ["image 0: a → b"],
        "by": "GD",
        "harm": {"counted": "broken", "number": 0, "images": 3, "bound": 0.6316, "level": 0.95, "budget": None},
        "patch": "runs/a/edit.safetensors",
        "edit": 1,
        "images": ["image 0"],
        "labels": [1],
        "settings": {"editor": {"class_path": "editable.editing.GD", "init_args": {"learning_rate": 0.1}}},
        "network": "0123",
        "before": patch.base,
        "after": patch.edited,
    }
    assert {**expected, "time": line["time"]} == line
    assert line["time"].endswith("+00:00")
    several = EditPatch({}, "a", "b", (EditRecord(["one"]), EditRecord(["two"])))
    lines = entries_of(several, Path("p"), "edit")
    assert [(some["edit"], some["asked"], some["harm"], some["network"]) for some in lines] == [
        (1, ["one"], None, "a"),
        (2, ["two"], None, "a"),
    ]
    assert entries_of(EditPatch({}, "a", "b"), "p", "edit") == []


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "there is no log of corrections"), (b"a\nb\n", "is no log of corrections: not one"), (b"", "")],
)
def test_what_is_no_log(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    if content is not None:
        path.write_bytes(content)
    if not message:
        assert read_log(path) == []
        return
    with pytest.raises(UserError, match=message):
        read_log(path)


def test_a_folder_in_its_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a folder, but must be a file"):
        append_corrections(tmp_path, [entry(0)])
