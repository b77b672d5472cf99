"""The command as a researcher meets it: in miniature, killed and taken up again, with an editor of hers."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from editable.cli import main
from tests.board.small import content, write
from tests.mistakes import error_line
from tests.paths import ROOT

CELLS = [("independent", "rmsprop"), ("stream", "gd"), ("stream", "rmsprop")]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    Path("results").mkdir()


def paths() -> list[Path]:
    return [Path("results/digits") / protocol / f"{editor}.json" for protocol, editor in CELLS]


def start(*arguments: str) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "train.py"), "board", *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def kill_in_the_second_cell(signum: signal.Signals) -> tuple[int, str]:
    """Start the board, and kill it when the first result is there; return its status and what it has said."""
    board = content()
    board["editors"]["gd"]["protocols"] = ["stream"]
    write(Path("results/board.yaml"), board)
    killed = start()
    while not Path("runs/board/digits/stream/gd").exists():  # the second cell has begun
        assert killed.poll() is None, killed.communicate()
        time.sleep(0.05)
    killed.send_signal(signum)
    _, said = killed.communicate(timeout=90)
    assert [path.is_file() for path in paths()] == [True, False, False]
    return killed.returncode, said


@pytest.mark.slow
def test_a_killed_board_goes_on_with_what_is_missing(capsys: pytest.CaptureFixture):
    assert kill_in_the_second_cell(signal.SIGKILL)[0] == -signal.SIGKILL
    first = paths()[0].stat().st_mtime_ns
    main(["board", "--only", "rmsprop"])
    assert "of 2 cells 1 are there, 1 are to be made by 1 runs" in capsys.readouterr().out
    assert [path.is_file() for path in paths()] == [True, False, True]
    assert paths()[0].stat().st_mtime_ns == first


@pytest.mark.slow
def test_an_interrupted_board_goes_on_to_the_end(capsys: pytest.CaptureFixture):
    status, said = kill_in_the_second_cell(signal.SIGTERM)
    there = paths()
    assert status == 128 + signal.SIGTERM
    assert "interrupted by SIGTERM: go on with the same command" in said
    first = there[0].stat().st_mtime_ns
    main(["board"])
    told = capsys.readouterr().out
    assert "of 3 cells 1 are there, 2 are to be made by 4 runs" in told
    assert "page: docs/board.md, 3 of 3 results" in told
    assert there[0].stat().st_mtime_ns == first
    for path, (protocol, editor) in zip(there, CELLS, strict=True):
        result = json.loads(path.read_text())
        assert (result["protocol"], result["editor"]) == (protocol, editor)
        assert len(result["searched"]) == (2 if editor == "gd" else 0)
        assert result["surroundings"]["threads"] >= 1
        rule = result["config"]["evaluation"]["editor"]["init_args"]["rule"]["init_args"]
        assert rule["learning_rate"] == result["constants"].get("rule.learning_rate", 0.01)
        assert ("stream_error" in result["metrics"]) == (protocol == "stream")
        assert [row["num_edits"] for row in result["points"]] == ([1, 2, 3] if protocol == "stream" else [])
    assert Path("docs/figures/board.png").is_file()
    page = Path("docs/board.md").read_text()
    assert "0 of 3 results are missing." in page
    assert page.count("| RMSProp |") == 2 + 1  # and among what each was given
    assert not list(Path("runs/board/digits").glob("*/*"))


def test_a_dry_run_makes_nothing(capsys: pytest.CaptureFixture):
    write(Path("results/board.yaml"))
    before = sorted(Path().rglob("*"))
    main(["board", "--dry_run", "--only", "gd"])
    told = capsys.readouterr().out
    assert "of 2 cells 0 are there, 2 are to be made by 6 runs, 0 cannot be made" in told
    assert "digits · stream · gd" in told
    assert "rmsprop" not in told
    assert sorted(Path().rglob("*")) == before


def test_a_page_of_nothing():
    write(Path("results/board.yaml"))
    main(["board", "--page_only"])
    assert "4 of 4 results are missing: 4 of digits." in Path("docs/board.md").read_text()
    assert not Path("docs/figures").exists()


@pytest.mark.slow
def test_what_fails_is_told_and_all_else_is_made(capsys: pytest.CaptureFixture):
    board = content()
    board["editors"]["rmsprop"]["layers"] = ["layer9"]
    board["editors"]["gd"]["protocols"] = board["editors"]["rmsprop"]["protocols"] = ["stream"]
    del board["editors"]["gd"]["search"]
    board["editors"] = {name: board["editors"][name] for name in ("rmsprop", "gd")}
    write(Path("results/board.yaml"), board)
    sentence = error_line(["board"], capsys)
    assert sentence == "error: 1 of 2 cells of the board could not be made, as is told above"
    assert Path("results/digits/stream/gd.json").is_file()
    assert not Path("results/digits/stream/rmsprop.json").exists()
    assert "1 of 2 results are missing" in Path("docs/board.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--board", "nowhere.yaml"], "there is no board at 'nowhere.yaml'"),
        (["--only", "gdd"], "no network, protocol or editor 'gdd': did you mean gd"),
        (["--fast"], "--fast"),
    ],
)
def test_mistakes_end_in_one_sentence(arguments: list[str], message: str, capsys: pytest.CaptureFixture):
    write(Path("results/board.yaml"))
    assert message in error_line(["board", *arguments], capsys)


def test_missing_weights_are_told_once(capsys: pytest.CaptureFixture):
    board = content()
    board["networks"]["digits"] |= {"weights": "none.ckpt", "made_by": "configs/own.yaml"}
    write(Path("results/board.yaml"), board)
    main(["board", "--dry_run"])
    told = capsys.readouterr().out
    assert told.count("the weights of digits are not there: 'none.ckpt', made by python train.py fit --config") == 1
    assert "and 3 more" in told
    assert "4 of 4 cells" in error_line(["board"], capsys)
