"""The weights of a network of the board, trained by its configuration where they are not there."""

import shutil
from pathlib import Path

import yaml

from editable.atomic import write_atomically
from editable.board.plan import Cell, merge
from editable.board.result import commit
from editable.board.run import LAST, run
from editable.command_line.shipped import find_shipped
from editable.errors import UserError
from editable.text_files import read_text
from editable.yaml_text import load_yaml

__all__ = ["train"]


def train(cell: Cell, folder: str | Path) -> str:
    """Train the network of a cell, or go on where its training was interrupted.

    Args:
        cell: Whose network has a configuration that trains it.
        folder: For the run, which is removed when the weights are in their place.

    Returns:
        What came of it, in words.

    Raises:
        FailedRun: If the training has failed.
        UserError: If there is no such configuration.
    """
    if cell.made_by is None or cell.weights is None:
        raise UserError(f"nothing says how {cell.network} is trained: give made_by, a configuration")
    try:
        content = load_yaml(read_text(find_shipped(cell.made_by)))
    except (FileNotFoundError, yaml.YAMLError) as error:
        raise UserError(f"the configuration '{cell.made_by}' that trains {cell.network} cannot be read") from error
    place = Path(folder) / cell.network / "training"
    found = run("fit", merge(content, cell.training), place, str(commit()))
    checkpoints = Path(found.folder).parent.glob(f"*/{LAST}")  # one that was gone on with has several
    with write_atomically(cell.weights) as temporary:
        shutil.copyfile(max(checkpoints, key=lambda path: path.stat().st_mtime), temporary)
    shutil.rmtree(place, ignore_errors=True)
    errors = [f"training error {100 * found.metrics[name]:.2f} %" for name in ("train_error",) if name in found.metrics]
    return ", ".join([*errors, f"{found.seconds:.0f} s"])
