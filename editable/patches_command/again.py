"""A patch that is made again: by its own run, from what was asked, on other patches than before."""

import csv
import json
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import yaml

from editable.atomic import write_atomically
from editable.callbacks.run.context import run_folder
from editable.callbacks.run.kept_edit import LOGS
from editable.editing import EditPatch, EditRecord
from editable.errors import UserError
from editable.lightning_cli import EditableCLI
from editable.text_files import read_text
from editable.yaml_text import load_yaml

__all__ = ["make_again"]

PATCHES = {"edit": "edit.safetensors", "rewrite": "rewrite.safetensors", "stream": "corrections.safetensors"}


def make_again(
    name: str, edits: Sequence[EditRecord], left_out: bool, before: Sequence[Path], table: Path
) -> EditPatch:
    """Run what has made a patch again.

    Args:
        name: Of the patch, for messages.
        edits: Those that are asked for.
        left_out: Whether that are fewer than the patch has.
        before: Files of the patches that it is made on.
        table: Where a table of edits may be written, for a stream that has fewer.

    Returns:
        The new patch.

    Raises:
        UserError: If it is not known how it was made, its configuration is gone, or the run does not keep it.
    """
    configs = {edit.config for edit in edits}
    config = configs.pop() if len(configs) == 1 else None
    if config is None or not Path(config).is_file():
        where = "has no file any more" if config else "is not one that it tells of"
        raise UserError(
            f"{name} has to be made again, but the configuration of its run{f' {config!r}' if config else ''} {where}: "
            "run it from the folder where it was run, or drop the edits behind it too"
        )
    command = _command(config)
    if left_out and not _one_by_one(config, command):
        raise UserError(f"{name} has several edits that were made at once by `{command}`: none can be dropped alone")
    options = [command, "--config", config, *_own_place(config, command), "--patches", *map(str, before)]
    if left_out:
        _write_table(table, edits)
        options += {
            "stream": [
                "--stream.edits=TableEdits",
                f"--stream.edits.table={table}",
                "--stream.num_edits=null",
                "--stream.held_out=0",
            ],
            "edit": [f"--edit.table={table}", "--edit.images=null", "--edit.labels=null"],
        }[command]
    if command == "edit":  # what is left is shown with its harm; refusing it would keep the dropped edit in place
        options += [*_editor_of(edits[0]), "--edit.max_drawdown=1"]
    else:
        options.append(f"--{command}.resume=null")
    cli = EditableCLI(options)
    return EditPatch.load(run_folder(cli.trainer) / PATCHES[command])


def _own_place(config: str, command: str) -> list[str]:
    """Return the options by which a run is not where the first one was: a new version, or a folder in the first one's.

    Of what has no logger the log of corrections stays where it was.
    """
    content: Any = load_yaml(read_text(config))
    trainer = content.get("trainer") or {}
    logger, root = trainer.get("logger"), trainer.get("default_root_dir")
    if logger in (False, []) and root:
        folder = next(some for number in count(1) if not (some := Path(root, f"again_{number}")).exists())
        log = [f"--{command}.log={Path(root, LOGS)}"] if content[command].get("log", True) is True else []
        return [f"--trainer.default_root_dir={folder}", *log]
    several = logger if isinstance(logger, list) else [logger]
    arguments = [each.get("init_args") or {} for each in several if isinstance(each, dict)]
    versioned = [each for each in arguments if each.get("version") is not None]
    if not versioned:
        return []
    for each in versioned:
        each["version"] = None
    return [f"--trainer.logger={json.dumps(logger)}"]


def _editor_of(edit: EditRecord) -> list[str]:
    """Return the options by which an edit has the editor that has made it: one that was chosen is not chosen anew."""
    made_by = edit.made_by if isinstance(edit.made_by, dict) else {}
    if "init_args" not in made_by.get("editor", ()):  # one that cannot be written down was not chosen
        return []
    editor, layers = (json.dumps(made_by.get(name)) for name in ("editor", "editable_layers"))
    return ["--edit.editor=null", f"--evaluation.editor={editor}", f"--evaluation.editable_layers={layers}"]


def _one_by_one(config: str, command: str) -> bool:
    """Return whether the edits of a run were made one after the other, so that there may be fewer."""
    content: Any = load_yaml(read_text(config))
    return command == "stream" or (command == "edit" and content["edit"].get("mode") == "stream")


def _command(config: str) -> str:
    """Return the subcommand whose configuration a file is."""
    try:
        content: Any = load_yaml(read_text(config))
    except yaml.YAMLError as error:
        raise UserError(f"'{config}' is no configuration of a run: it is no YAML") from error
    found = [command for command in PATCHES if isinstance(content, dict) and content.get(command) is not None]
    if len(found) != 1:
        raise UserError(f"'{config}' is no configuration of a run that leaves a patch: {', '.join(PATCHES)}")
    return found[0]


def _write_table(path: Path, edits: Sequence[EditRecord]) -> None:
    rows = [pair for edit in edits for pair in zip(edit.images, edit.labels, strict=True)]
    classes = next((edit.classes for edit in edits if edit.classes), None)
    with write_atomically(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "label"])
        writer.writerows([image, classes[label] if classes else label] for image, label in rows)
