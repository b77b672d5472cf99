"""Networks whose weights are not there are trained as the board says, and only then."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from editable.board import Board, Cell
from editable.board import training as trainings
from editable.board.run import FailedRun, FinishedRun
from editable.board.training import train
from editable.cli import main
from editable.errors import UserError
from tests.board.results import result
from tests.board.small import NETWORK, content, write
from tests.mistakes import error_line

CONFIG: dict[str, Any] = {
    "model": {
        "class_path": "editable.tasks.ClassificationTask",
        "init_args": {"network": {"class_path": "editable.models.cifar_resnet", "init_args": NETWORK}},
    },
    "data": {"class_path": "editable.data.DigitsDataModule", "init_args": {"train_limit": 128}},
    "trainer": {"max_epochs": 1, "limit_train_batches": 1},
}


def board_of_trained(**network: Any) -> dict[str, Any]:
    board = content()
    board["networks"]["digits"] |= {"weights": "trained/own.ckpt", "made_by": "own.yaml", **network}
    return board


def cell(**network: Any) -> Cell:
    return Board.read(write(Path("board.yaml"), board_of_trained(**network))).only(["independent", "rmsprop"])[0]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.yaml").write_text(yaml.safe_dump(CONFIG))


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """What is asked of runs, which are stood in for; each leaves a checkpoint of eight bytes."""
    asked = []

    def run(command: str, config: dict[str, Any], folder: Path, version: str) -> FinishedRun:
        asked.append((command, copy.deepcopy(config)))
        left = Path(folder, "hash", "runs", "version_0")
        (left / "checkpoints").mkdir(parents=True)
        (left / "checkpoints" / "last.ckpt").write_bytes(b"learnt!!")
        return FinishedRun({"train_error": 0.125}, [], 7.0, str(left))

    monkeypatch.setattr(trainings, "run", run)
    return asked


def test_weights_are_made_of_the_configuration_with_its_options(fits: list):
    options = {"seed_everything": 3, "model": {"init_args": {"network": {"init_args": {"width": 8}}}}}
    assert train(cell(training=options), "work") == "training error 12.50 %, 7 s"
    expected = copy.deepcopy(CONFIG) | {"seed_everything": 3}
    expected["model"]["init_args"]["network"]["init_args"]["width"] = 8
    assert fits == [("fit", expected)]
    assert Path("trained/own.ckpt").read_bytes() == b"learnt!!"
    assert not Path("work/digits/training").exists()


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"made_by": None}, "nothing says how digits is trained: give made_by"),
        ({"weights": None}, "nothing says how digits is trained"),
        ({"made_by": "nowhere.yaml"}, "'nowhere.yaml' that trains digits cannot be read"),
        ({"made_by": "."}, "'.' is a folder, but must be a file"),
    ],
)
def test_what_cannot_be_trained(fits: list, network: dict[str, Any], message: str):
    with pytest.raises(UserError, match=message):
        train(cell(**network), "work")
    assert not fits
    assert not Path("trained").exists()


def test_a_failed_training_leaves_no_weights(monkeypatch: pytest.MonkeyPatch):
    def run(*_: object) -> FinishedRun:
        raise FailedRun("it ended")

    monkeypatch.setattr(trainings, "run", run)
    with pytest.raises(FailedRun, match="it ended"):
        train(cell(), "work")
    assert not Path("trained").exists()


def test_a_result_of_weights_that_are_gone_is_not_made_again(capsys: pytest.CaptureFixture):
    write(Path("board.yaml"), board_of_trained())
    for some in Board.read("board.yaml").cells:
        asked = some.asked_without_weights() | {"weights": "0123"}
        result(some.editor, 1.0, 0.01, protocol=some.protocol, asked=asked).write(some.path("results"))
    main(["board", "--board", "board.yaml", "--dry_run", "--train"])
    assert "of 4 cells 4 are there, 0 are to be made by 0 runs, 0 cannot be made" in capsys.readouterr().out
    Path("results/digits/stream/gd.json").unlink()
    main(["board", "--board", "board.yaml", "--dry_run", "--train"])
    assert "of 4 cells 3 are there, 1 are to be made by 3 runs" in capsys.readouterr().out


def test_without_being_asked_nothing_is_trained(capsys: pytest.CaptureFixture):
    write(Path("board.yaml"), board_of_trained(training={"seed_everything": 3}))
    assert "4 of 4 cells" in error_line(["board", "--board", "board.yaml"], capsys)
    assert not Path("trained").exists()


@pytest.mark.slow
def test_a_network_is_trained_and_measured():
    write(Path("board.yaml"), board_of_trained(training={"seed_everything": 3}))
    main(["board", "--board", "board.yaml", "--train", "--only", "independent", "rmsprop"])
    state = torch.load("trained/own.ckpt", weights_only=True)["state_dict"]
    assert state["network.fc.weight"].shape == (10, 32)
    assert Path("results/digits/independent/rmsprop.json").is_file()
