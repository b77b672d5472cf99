"""Options that are known without torch are those of the parser, and what it takes is never refused."""

import pytest

from editable.command_line.known_options import known_options, refuse_unknown
from editable.command_line.table import COMMANDS
from editable.errors import UserError
from editable.mistakes import users_mistake
from editable.trainer import SUBCOMMANDS
from tests.command_line.parsing import OnlyParsed, parsed

RUNS = [name for name, command in COMMANDS.items() if command.options is None]


@pytest.mark.parametrize("command", RUNS)
def test_every_option_of_the_parser_is_known(command: str, monkeypatch: pytest.MonkeyPatch):
    parsers = []
    monkeypatch.setattr(OnlyParsed, "parse_arguments", lambda self, parser, args: parsers.append(parser))
    with pytest.raises(AttributeError):  # nothing was parsed
        OnlyParsed([command])
    parser = parsers[0]._subcommands_action._name_parser_map[command]
    options = [option for action in parser._actions for option in action.option_strings if option.startswith("--")]
    assert len(options) > 40
    known = known_options(command)
    for section in ("trainer", "evaluation", *([command] if command in SUBCOMMANDS or command == "predict" else [])):
        names = {option.split(".")[1].removesuffix("+") for option in options if option.startswith(f"--{section}.")}
        assert known[section] == names - {"help"}, section
    refuse_unknown(command, [f"{option}=1" for option in options if not option.endswith("help")])


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("test", ["--modle=x"]),
        ("fit", ["--trainer.max_epoch=3"]),
        ("test", ["--evaluation.image_strid", "3"]),
        ("test", ["--num_edits=3"]),
        ("test", ["--patchs", "a.safetensors"]),
        ("edit", ["--edti.images", "12"]),
        ("test", ["--xyzzy=1"]),
        ("stream", ["--stream.num_edit=3"]),
        ("fit", ["--trainer.callback+=ModelCheckpoint"]),
    ],
)
def test_the_sentence_is_that_of_the_parser(command: str, options: list[str]):
    with pytest.raises(UserError) as at_once:
        refuse_unknown(command, options)
    with pytest.raises((Exception, SystemExit)) as of_the_parser:
        parsed(command, *options)
    assert str(at_once.value) == users_mistake(of_the_parser.value)


@pytest.mark.parametrize(
    "options",
    [
        ["--help", "--modle"],
        ["-h", "--modle=x"],
        ["--model.help=EditableTrainingTask", "--modle"],
        ["--", "--modle"],
        ["--trainer.callbacks+=ModelCheckpoint", "--trainer.callbacks.monitor=x"],
        ["--trainer.logger.save_dir=x", "--model.anything.at.all=1", "--data.xyzzy=2"],
        ["--rewrite.layer=fc", "--new_class.name=x", "--config=--modle"],
        ["-1", "x", "=", ""],
    ],
)
def test_what_only_the_parser_can_judge_is_left_to_it(options: list[str]):
    assert refuse_unknown("test", options) is None
