"""Help begins with what a command has for itself, and lists no classes that anybody may name."""

import pytest

from editable.cli import main
from editable.command_line.table import COMMANDS


def shown(arguments: list[str], capsys: pytest.CaptureFixture) -> str:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code in (0, None)
    return capsys.readouterr().out


def test_own_options_come_first_and_lightnings_last(capsys: pytest.CaptureFixture):
    text = shown(["edit", "--help"], capsys)
    begun = (
        "usage: ",
        "Edits the",
        "--edit.images ",
        "--config CONFIG",
        "--patches",
        "--model ",
        "--data ",
        "--evaluation.num",
    )
    positions = [text.index(part) for part in (*begun, "--trainer.accelerator")]
    assert positions == sorted(positions)
    assert len(text.partition("\n\n")[0].splitlines()) == 1, "the usage is one line"
    assert "Linked" not in text


def test_lightnings_own_commands_say_what_they_do(capsys: pytest.CaptureFixture):
    text = shown(["test", "--help"], capsys)
    assert COMMANDS["test"].summary in " ".join(text.split())
    assert text.index("--config CONFIG") < text.index("--ckpt_path") < text.index("--trainer.accelerator")


def test_networks_are_those_that_are_made_here(capsys: pytest.CaptureFixture):
    text = shown(["fit", "--model.help=EditableTrainingTask"], capsys)
    assert "torch.nn" not in text
    assert "editable.models.cifar_resnet18" in text
    assert "editable.editing.LowRankEditor" in text  # of editors there are few
    assert len(text.splitlines()) < 200


def test_a_base_class_names_those_that_are_there(capsys: pytest.CaptureFixture):
    text = shown(["fit", "--model.help"], capsys)
    assert "  editable.tasks.EditableTrainingTask\n" in text
    assert "  editable.data.DigitsDataModule\n" in shown(["fit", "--data.help"], capsys)
