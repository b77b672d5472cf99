"""Configurations, and the board's file, that come with the package: found where the working folder has no such file."""

from pathlib import Path, PurePath

from lightning.pytorch.utilities import rank_zero_warn

__all__ = ["find_shipped", "shipped_folder"]

CONFIGS = "configs"
BOARD = ("results", "board.yaml")
"""The one file of results that comes with the package: it says what is on the board."""
PACKAGE = Path(__file__).parents[1]


def shipped_folder(name: str = CONFIGS) -> Path:
    """Return a folder that is shipped: the package's, or in a clone, of which that is made, the one beside it.

    Args:
        name: Of the folder, ``configs`` or ``results``.
    """
    packaged = PACKAGE / name
    return packaged if packaged.is_dir() else PACKAGE.parent / name


def find_shipped(path: str) -> str:
    """Return the file that comes with the package where a path ``configs/…`` leads nowhere, and say so.

    Args:
        path: As it was given, also ``results/board.yaml``; what is there, and what is no such path, is returned as it
            is.
    """
    parts = PurePath(path).parts
    if len(parts) < 2 or (parts[0] != CONFIGS and parts != BOARD) or "\0" in path or Path(path).exists():
        return path
    shipped = shipped_folder(parts[0]).joinpath(*parts[1:])
    if ".." in parts or not shipped.is_file():
        return path
    rank_zero_warn(f"there is no '{path}' here: the one that comes with editable is taken, '{shipped}'")
    return str(shipped)
