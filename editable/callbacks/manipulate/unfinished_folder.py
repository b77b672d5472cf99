"""Manipulated images while they are being made: in a folder beside the finished one, from where a run goes on."""

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import to_dtype, to_pil_image

from editable.atomic import write_atomically
from editable.callbacks.run.kept_json import read_kept, write_kept
from editable.data import ManipulatedImage, save_manipulated_folder
from editable.data.images.reader import read_image
from editable.errors import UserError

__all__ = ["MadeImage", "UnfinishedFolder", "file_stems"]


class MadeImage(NamedTuple):
    """What became of an image.

    Attributes:
        position: Of the image in the data set.
        share: Part of it that the mask of the old concept covers; 0 where this was not found.
    """

    position: int
    share: float


class UnfinishedFolder:
    """Manipulated images that are not all there yet, in ``<out>.unfinished``.

    Several processes may write into it at once. It is of use only to a run that makes the same images.

    Args:
        out: Where the finished image folder shall be.
        identity: What the images depend on, as JSON holds it.

    Raises:
        UserError: If ``out`` is there already and not an empty folder, or something else is in ``<out>.unfinished``.
    """

    def __init__(self, out: Path, identity: Mapping[str, Any]) -> None:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UserError(
                f"manipulate.out is '{out}', which is there already and not an empty folder: choose another one, for "
                "nothing is overwritten"
            )
        self.out, self.identity = out, json.loads(json.dumps(identity))
        self.folder = out.with_name(f"{out.name}.unfinished")
        foreign = (
            [path for path in self.folder.glob("*") if not _is_own(path)] if self.folder.is_dir() else [self.folder]
        )
        if foreign and os.path.lexists(foreign[0]):
            raise UserError(
                f"'{foreign[0]}' is not of an interrupted run, and would be lost: choose another manipulate.out"
            )

    def read(self) -> list[MadeImage]:
        """Return what an interrupted run has left; nothing where there was none.

        Raises:
            UserError: If it made other images, or its files are damaged.
        """
        made: list[MadeImage] = []
        for path in sorted(self.folder.glob("made*.json")):
            try:
                there, own = read_kept(path, identity=dict[str, Any], made=list[MadeImage])
            except (OSError, ValueError) as error:
                raise UserError(f"'{path}' is damaged ({error}): remove '{self.folder}' to begin anew") from error
            for name, here in self.identity.items():
                if there.get(name) != here:
                    raise UserError(
                        f"'{self.folder}' is of an interrupted run with other {name}: remove it to begin anew, or "
                        "choose another manipulate.out"
                    )
            made += own
        by_position = {one.position: one for one in made}
        return [one for one in by_position.values() if not one.share or self._path(one.position).is_file()]

    def write(self, rank: int, made: Sequence[MadeImage]) -> None:
        """Keep what one process has made so far."""
        write_kept(self.folder / f"made-{rank}.json", identity=self.identity, made=list(made))

    def put(self, position: int, image: Tensor) -> None:
        """Keep a manipulated image, [C, H, W] in [0, 1]."""
        with write_atomically(self._path(position), durable=False) as temporary:
            to_pil_image((image * 255).round().clamp(0, 255).to("cpu", torch.uint8)).save(temporary)

    def finish(self, entries: Iterable[tuple[int, ManipulatedImage]], settings: Mapping[str, Any]) -> None:
        """Make an image folder with a manifest of what is kept, and remove the rest.

        Args:
            entries: The position of each image, and what is to be said of it; its pixels are those that are kept.
            settings: See :func:`~editable.data.save_manipulated_folder`.
        """
        whole = self.folder / "whole"
        shutil.rmtree(whole, ignore_errors=True)  # of a run that was interrupted here
        save_manipulated_folder(whole, self._read_pixels(entries), settings)
        whole.replace(self.out)
        shutil.rmtree(self.folder)

    def discard(self) -> None:
        """Remove all that is kept."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _read_pixels(self, entries: Iterable[tuple[int, ManipulatedImage]]) -> Iterator[ManipulatedImage]:
        for position, entry in entries:
            pixels = to_dtype(read_image(self._path(position)), torch.float32, scale=True)
            yield entry._replace(image=pixels if len(entry.image) == len(pixels) else pixels[:1])

    def _path(self, position: int) -> Path:
        return self.folder / "images" / f"{position:08}.png"


def _is_own(path: Path) -> bool:
    """Return whether something in ``<out>.unfinished`` is what a run leaves there; hidden is what is half written."""
    return path.name in ("images", "whole") or path.match("made-*.json") or path.name.startswith(".")


def file_stems(names: Sequence[str], class_names: Sequence[str]) -> list[str]:
    """Return a name for the manipulated version of each image, without ending, of its own in its class.

    Args:
        names: Of the images, ``<class>/<file>`` or others.
        class_names: The class of each.

    Returns:
        The file's name without its ending, which is kept where another image of the class would have the same name.
    """
    inside = [name.removeprefix(f"{own}/").replace("/", "-") for name, own in zip(names, class_names, strict=True)]
    stems = [PurePosixPath(name).stem for name in inside]
    count = Counter(zip(class_names, stems, strict=True))
    return [stem if count[own, stem] == 1 else name for name, stem, own in zip(inside, stems, class_names, strict=True)]
