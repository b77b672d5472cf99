"""What a judgement has made of images so far, kept on disk so that an interrupted one goes on from there."""

import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from editable.callbacks.judge.judged_images import JudgedImages
from editable.callbacks.run.outcome_file import from_plain
from editable.callbacks.run.same_run import require_same_run
from editable.errors import UserError
from editable.models.tensor_file import read_tensors, write_tensors

__all__ = ["NAME", "PASSES", "SeenImages", "UnfinishedJudgement", "joined", "read_judgement"]

NAME = "judge.safetensors"
PATTERN = "judge*.safetensors"
SECONDS_BETWEEN_WRITES = 10


class SeenImages(NamedTuple):
    """How strongly the old concept is seen in n images.

    Attributes:
        positions: Of the images among all test images, int64 [n].
        activations: float64 [n].
    """

    positions: Tensor
    activations: Tensor


PASSES: dict[str, type[SeenImages | JudgedImages]] = {
    "seen": SeenImages,
    "manipulated": JudgedImages,
    "normal": JudgedImages,
}
"""What goes through test images, in turn, and what it keeps of them."""
Images = TypeVar("Images", SeenImages, JudgedImages)


def joined(parts: Iterable[Images]) -> Images:
    """Return all of some images, of which there must be some, sorted by position."""
    kept = list(parts)
    fields = [torch.cat(field) for field in zip(*kept, strict=True)]
    order = fields[0].argsort()
    return type(kept[0])(*(field[order] for field in fields))


class UnfinishedJudgement:
    """Keeps what one process has made of images.

    Args:
        folder: Of the run.
        rank: Of the process.
        identity: What it depends on, as JSON holds it.
        finished: What an interrupted judgement has left, of all its processes.
    """

    def __init__(self, folder: Path, rank: int, identity: Mapping[str, Any], finished: Mapping[str, Any]) -> None:
        self._path = folder / (NAME if rank == 0 else f"judge-{rank}.safetensors")
        self._identity, self._finished = json.dumps(identity), finished
        self._own: dict[str, list[Any]] = {name: [] for name in PASSES}
        if rank == 0:
            for name, some in finished.items():
                self._own[name].append(some)
        self._written = time.monotonic()

    def finished(self, name: str) -> list[int]:
        """Return the positions of images that an interrupted judgement has done a pass of."""
        return self._finished[name].positions.tolist() if name in self._finished else []

    def own(self, name: str) -> list[Any]:
        """Return what this process has of a pass, in parts."""
        return self._own[name]

    def keep(self, name: str, images: Any) -> None:
        """Take images that a pass has looked at, and write all so far every ten seconds."""
        self._own[name].append(images)
        if time.monotonic() - self._written > SECONDS_BETWEEN_WRITES:
            self.write()

    def write(self) -> None:
        """Write what is done so far, whole or not at all."""
        tensors = {
            f"{name}.{field}": value
            for name, parts in self._own.items()
            if parts
            for field, value in joined(parts)._asdict().items()
        }
        if tensors:
            write_tensors(self._path, tensors, {"identity": self._identity})
        self._written = time.monotonic()


def read_judgement(folder: Path, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an interrupted judgement, of any number of processes, has left, by pass.

    Args:
        folder: Its run folder.
        identity: What this judgement depends on.

    Raises:
        UserError: If there is none, a file is damaged, or it was another one.
    """
    paths = sorted(folder.glob(PATTERN))
    if not paths:
        raise UserError(f"judge.resume: there is no judgement in '{folder}', which has no {NAME}")
    parts: dict[str, list[Any]] = {}
    for path in paths:
        there, read = _read(path)
        require_same_run(f"judge.resume: the judgement in '{folder}' was another one", there, identity)
        for name, images in read.items():
            parts.setdefault(name, []).append(images)
    finished = {name: joined(some) for name, some in parts.items()}
    for images in finished.values():
        twice = len(images.positions) - len(images.positions.unique())
        if twice:
            raise UserError(f"judge.resume: the judgement in '{folder}' is damaged: it has {twice} images twice")
    return finished


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return identity and images of a file."""
    try:
        tensors, texts = read_tensors(path)
        identity = from_plain(json.loads(texts["identity"]), dict[str, Any])
        read = {}
        for name, kind in PASSES.items():
            if f"{name}.positions" in tensors:
                read[name] = kind(*(tensors[f"{name}.{field}"] for field in kind._fields))
        return identity, read
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"judge.resume: '{path}' is not what a judgement has left ({error})") from error
