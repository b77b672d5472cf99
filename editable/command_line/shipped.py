"""The configurations that come with the package, found where the working folder has no such file."""

from pathlib import Path, PurePath

from lightning.pytorch.utilities import rank_zero_warn

__all__ = ["find_shipped", "shipped_folder"]

FOLDER = "configs"
PACKAGE = Path(__file__).parents[1]


def shipped_folder() -> Path:
    """Return the folder of configurations: the package's, or in a clone, of which that is made, the one beside it."""
    packaged = PACKAGE / FOLDER
    return packaged if packaged.is_dir() else PACKAGE.parent / FOLDER


def find_shipped(path: str) -> str:
    """Return the file that comes with the package where a path ``configs/…`` leads nowhere, and say so.

    Args:
        path: As it was given; what is there, and what is no such path, is returned as it is.
    """
    parts = PurePath(path).parts
    if len(parts) < 2 or parts[0] != FOLDER or "\0" in path or Path(path).exists():
        return path
    shipped = shipped_folder().joinpath(*parts[1:])
    if ".." in parts or not shipped.is_file():
        return path
    rank_zero_warn(f"there is no '{path}' here: the one that comes with editable is taken, '{shipped}'")
    return str(shipped)
