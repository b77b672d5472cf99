"""Lightning's command line on editable tasks: its subcommands, further ones, and the options that all of them share."""

import inspect
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Any, get_args

import yaml
from jsonargparse import Namespace, set_loader
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback

import editable.data
import editable.editing
import editable.models
import editable.rewriting
import editable.tasks  # noqa: F401  what is imported here can be named on the command line by its bare class name
from editable.app import App
from editable.callbacks import AppliedPatches, DrawdownEvaluation, NewClass, PredictionTable, RankOneRewrite, RunReport
from editable.callbacks.run.context import run_folder
from editable.command_line.class_changes import arguments_go_with_their_class
from editable.command_line.first_word import program
from editable.command_line.keywords import functions_take_any_keyword
from editable.command_line.one_value import one_value_is_a_list_of_one
from editable.command_line.parser import EditableParser
from editable.command_line.shipped import find_shipped
from editable.command_line.table import COMMANDS
from editable.command_line.whole_numbers import whole_numbers_stay_whole
from editable.data.classes import NOTHING, ClassName, name_text
from editable.errors import UserError
from editable.starting.checkpoint import check_checkpoint, find_checkpoint, stands_for_a_file
from editable.starting.folder import new_run_folder
from editable.starting.parts import check_parts
from editable.starting.requests import check_numbers, check_trainer
from editable.text_files import read_text, require_file
from editable.trainer import SUBCOMMANDS, EditableTrainer
from editable.yaml_text import load_yaml

__all__ = ["EditableCLI"]

OWN_OPTIONS: dict[str, type[Callback]] = {**SUBCOMMANDS, "predict": PredictionTable, "app": App}
"""Subcommands with a callback whose arguments are the options ``--<name>.…``."""

PARSER_MODE = "yaml with names"
"""What jsonargparse calls the way in which we read YAML."""

NAMED_INSIDE = (".class_name", ".labels")
"""Ends of the options of finders and patches, which stand inside others, that name classes."""

TEST_SECTIONS: dict[str, type[Callback]] = {"rewrite": RankOneRewrite, "new_class": NewClass}
"""Sections of a configuration that make ``test`` run a callback besides: the same as those of the subcommands."""


class _Parser(EditableParser, LightningArgumentParser):
    """Lightning's parser, with what ours do otherwise."""


class RunConfig(SaveConfigCallback):
    """Saves the run's ``config.yaml`` in its log folder, from which the same run can be started again."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Save the configuration, unless that would overwrite another run's."""
        path = run_folder(trainer) / self.config_filename
        if not self.already_saved and trainer.is_global_zero and path.exists():
            raise UserError(
                f"'{path}' is the configuration of another run, which would be overwritten; "
                "choose another trainer.logger or trainer.default_root_dir"
            )
        set_loader(PARSER_MODE, load_yaml, (yaml.YAMLError,))  # in a process that was spawned, nobody has yet
        with functions_take_any_keyword():
            super().setup(trainer, pl_module, stage)


class EditableCLI(LightningCLI):
    """Lightning's command line with the settings that editing needs.

    Tasks and data modules are named by class; ``evaluation.…`` configures
    :class:`~editable.callbacks.DrawdownEvaluation`. In a further subcommand, the options with its name configure its
    callback, which is given the evaluation and takes its place in the run. Evaluation keeps gradients possible (no
    inference mode), runs log to ``runs/``, and each leaves ``config.yaml``, ``metrics.json`` and ``report.html`` in its
    log folder.

    Args:
        args: Command line arguments; by default those of the process.
        run: Run the subcommand; otherwise the classes are only made, and no subcommand is expected.
    """

    def __init__(self, args: Sequence[str] | None = None, run: bool = True) -> None:
        given = list(_with_names(sys.argv[1:] if args is None else args))
        self._asked = given[0] if given and given[0] in self.subcommands() else None
        set_loader(PARSER_MODE, load_yaml, (yaml.YAMLError,))
        super().__init__(
            LightningModule,
            LightningDataModule,
            save_config_callback=RunConfig,
            trainer_class=EditableTrainer,
            trainer_defaults={
                "inference_mode": False,
                "logger": {
                    "class_path": "lightning.pytorch.loggers.TensorBoardLogger",
                    "init_args": {"save_dir": "runs", "name": "unnamed"},
                },
                "callbacks": [RunReport()],
            },
            seed_everything_default=0,
            subclass_mode_model=True,
            subclass_mode_data=True,
            args=given,
            run=run,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            parser_class=_Parser,
            parser_kwargs={"prog": program(), "parser_mode": PARSER_MODE},
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the command line; the arguments of a class go when another class takes its place."""
        with (
            arguments_go_with_their_class(),
            one_value_is_a_list_of_one(),
            whole_numbers_stay_whole(),
            functions_take_any_keyword(),
        ):
            super().parse_arguments(parser, args)
        _with_plain_text(self.config)
        _with_found_files(self.config)
        _check_finite("", self.config.get(self.config.get("subcommand") or "", self.config))

    def instantiate_classes(self) -> None:
        """Make the objects of the configuration."""
        with functions_take_any_keyword():
            super().instantiate_classes()

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Return the subcommands, each with the arguments of the trainer's method that are no options."""
        return {**LightningCLI.subcommands(), **{name: {"model", "datamodule"} for name in (*SUBCOMMANDS, "app")}}

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        """Make the parser of a subcommand; a further one has the options of its callback beside those of its method.

        Where one is asked for, the others' options are not looked at: making all takes most of a short command's time.
        """
        if self._asked not in (None, subcommand):
            return self.init_parser(**kwargs)
        kwargs["description"] = COMMANDS[subcommand].summary
        kwargs["usage"] = f"{program()} {subcommand} --config FILE [options]"
        if subcommand not in OWN_OPTIONS:
            parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
            if subcommand == "test":
                _add_test_sections(parser)
            return parser if subcommand == "fit" else _add_patches(parser)
        callback = OWN_OPTIONS[subcommand]
        parser = self.init_parser(**kwargs)
        self._add_arguments(parser)
        parser.add_lightning_class_args(callback, subcommand)
        if "evaluation" in inspect.signature(callback).parameters:
            parser.link_arguments("evaluation", f"{subcommand}.evaluation", apply_on="instantiate")
            parser.callback_keys.remove("evaluation")
        else:
            parser.set_defaults({"evaluation.num_edits": 0})
        skip: set[str | int] = set(self.subcommands()[subcommand])
        # Not as a group: that would have the same name as the callback's.
        added = parser.add_method_arguments(klass, subcommand, skip=skip, as_group=False)
        self._subcommand_method_arguments[subcommand] = added
        return _add_patches(parser)

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> Trainer:
        """Make the trainer; a section that is left out is no callback, and patches come before all that looks on."""
        patches = self._get(self.config_init, "patches")
        applied = [AppliedPatches(patches)] if patches else []
        given = [callback for callback in callbacks if callback is not None]
        return super()._instantiate_trainer(config, [*applied, *given])

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the evaluation of edits, which is part of every run."""
        parser.add_lightning_class_args(DrawdownEvaluation, "evaluation")

    def before_instantiate_classes(self) -> None:
        """Look at the checkpoint's path, and read checkpoints as data, never as code."""
        config = self.config.get(self.subcommand, {}) if self.subcommand else {}
        check_numbers(config.get("trainer") or {})
        check_parts(config.get("trainer") or {})
        path = config.get("ckpt_path")
        if path is not None and not stands_for_a_file(path):
            check_checkpoint(path)
        if config.get("weights_only", True) is None:
            config["weights_only"] = True

    def _run_subcommand(self, subcommand: str) -> None:
        """Run it in a folder of its own."""
        check_trainer(self.trainer, self.model, self.evaluation.scoring)
        with new_run_folder(self.trainer):
            super()._run_subcommand(subcommand)

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        """Return the arguments of the trainer's method, with the file that a word for a checkpoint stands for."""
        arguments = super()._prepare_subcommand_kwargs(subcommand)
        if arguments.get("ckpt_path") is not None:
            arguments["ckpt_path"] = find_checkpoint(arguments["ckpt_path"], self.trainer)
        return arguments

    @property
    def evaluation(self) -> DrawdownEvaluation:
        """The callback that evaluates edits in this run."""
        return self._get(self.config_init, "evaluation")

    def _parse_ckpt_path(self) -> None:
        """Do nothing: hyper-parameters inside a checkpoint must not silently win over configuration and options."""


def _with_names(given: Sequence[str]) -> Iterator[str]:
    """Return arguments in which names of classes are sure to be text; refuse what is no file, and YAML that is no text.

    jsonargparse would wait for a pipe to be written, and read a device without end.
    """
    types = {
        f"--{command}.{name}": get_args(parameter.annotation)
        for command, kind in SUBCOMMANDS.items()
        for name, parameter in inspect.signature(kind).parameters.items()
        if {*get_args(ClassName)} <= {*get_args(parameter.annotation)}
    }
    option = ""
    for argument in given:
        name, equals, value = argument.partition("=")
        here, text = (name, value) if equals and argument.startswith("--") else (option, argument)
        text = find_shipped(text)
        require_file(text, or_folder=True)
        if text.endswith((".yaml", ".yml")) and Path(text).is_file():
            read_text(text)
        if here in types or here.endswith(NAMED_INSIDE):
            text = _as_text(text, NoneType in types.get(here, (NoneType,)))
        yield f"{name}={text}" if here == name and equals else text
        option = argument


def _as_text(names: str, is_optional: bool) -> str:
    """Write what names one class or several such that YAML takes none of them for a number, nothing, or a list."""
    if (is_optional and names in NOTHING) or names.startswith("- "):
        return f'"{names}"'
    try:
        several = load_yaml(names) if names.startswith("[") else None
    except (yaml.YAMLError, UserError):
        return names
    if not isinstance(several, list) or any(isinstance(some, list | dict) for some in several):
        return names
    return json.dumps([name_text(some) for some in several], ensure_ascii=False)


def _with_plain_text(section: Namespace) -> None:
    """Put text in the place of enumerations: defaults of Lightning's that no configuration can be saved with."""
    for name, value in vars(section).items():
        if isinstance(value, str) and isinstance(value, Enum):
            section[name] = value.value
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, Namespace):
                _with_plain_text(part)


def _with_found_files(part: Any) -> Any:
    """Return a configuration in which paths below ``~`` are the user's own, and files of the package are found."""
    if isinstance(part, Namespace | dict):
        for name, value in list(vars(part).items() if isinstance(part, Namespace) else part.items()):
            part[name] = _with_found_files(value)
    elif isinstance(part, list):
        part[:] = [_with_found_files(value) for value in part]
    if not isinstance(part, str):
        return part
    return find_shipped(os.path.expanduser(part) if part.startswith("~") and "/" in part else part)


def _check_finite(name: str, value: Any) -> None:
    """Refuse NaN and infinity, which YAML has words for, in every option, Lightning's and torch's own too."""
    if isinstance(value, Mapping | Namespace):
        for key, part in value.items(branches=True, nested=False) if isinstance(value, Namespace) else value.items():
            _check_finite(name if key == "init_args" else f"{name}.{key}".removeprefix("."), part)
    elif isinstance(value, list | tuple):
        for number, part in enumerate(value):
            _check_finite(f"{name}[{number}]", part)
    elif isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{name} must be finite, got {value}")


def _add_patches(parser: LightningArgumentParser) -> LightningArgumentParser:
    """Let a subcommand that trains nothing run on a network with edit patches."""
    parser.add_argument(
        "--patches",
        nargs="*",
        type=str,
        default=[],
        help="Patches that `edit` or `rewrite` have left, to be put into the network, in the order of their making.",
    )
    return parser


def _add_test_sections(parser: LightningArgumentParser) -> None:
    """Let ``test`` take the options of further subcommands, each of which then runs in the same test."""
    for name, callback in TEST_SECTIONS.items():
        meaning = f"{callback.__doc__.partition(chr(10))[0]} See `{name} --help`."  # type: ignore[union-attr]
        parser.add_argument(f"--{name}", type=callback | None, default=None, help=meaning)
        parser.callback_keys.append(name)
