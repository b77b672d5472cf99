"""The finished edits of an evaluation, kept on disk so that an interrupted one goes on from there."""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from editable.callbacks.run.same_run import editor_identity, require_same_run
from editable.data.edits.edit_streams import Edits
from editable.editing import BasePredictions, EditEvaluator, EditOutcomes, EditProgress
from editable.errors import UserError
from editable.models import fingerprint
from editable.models.tensor_file import read_tensors, write_tensors

__all__ = ["UnfinishedEdits", "edits_identity", "is_kept", "read_progress", "require_kept"]

NAME = "evaluation.safetensors"
PATTERN = "evaluation*.safetensors"
SECONDS_BETWEEN_WRITES = 10
SAMPLER = "sampler."
LOOKED_AT = 16
"""Edited inputs by which a data set is recognised."""


class UnfinishedEdits:
    """Keeps what one process has done of an evaluation.

    Args:
        folder: Of the run.
        rank: Of the process.
        identity: What the outcomes depend on, as JSON holds it.
    """

    def __init__(self, folder: Path, rank: int, identity: Mapping[str, Any]) -> None:
        self._path = folder / _name(rank)
        self._identity = json.dumps(identity)
        self._unwritten: EditProgress | None = None
        self._written = time.monotonic()

    def keep(self, progress: EditProgress) -> None:
        """Take what is done so far, and write it every ten seconds."""
        self._unwritten = progress
        if time.monotonic() - self._written > SECONDS_BETWEEN_WRITES:
            self.write()

    def write(self) -> None:
        """Write what is done so far, whole or not at all."""
        if self._unwritten is not None:
            sampler = {f"{SAMPLER}{name}": value for name, value in self._unwritten.sampler.items()}
            write_tensors(self._path, self._unwritten.outcomes._asdict() | sampler, {"identity": self._identity})
            self._unwritten, self._written = None, time.monotonic()

    def remove(self) -> None:
        """Remove what was written: the evaluation is done."""
        self._path.unlink(missing_ok=True)


def edits_identity(
    network: nn.Module,
    evaluator: EditEvaluator,
    base: BasePredictions,
    edits: Edits,
    dataset: Dataset,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Return what the outcomes of edits depend on, as JSON holds it.

    Args:
        network: The unedited network.
        evaluator: Makes the edits and scores them.
        base: What the unedited network predicts.
        edits: Which input gets which label, ...
        dataset: ... and the inputs.
        settings: What else there is.
    """
    looked_at = edits.indices[:: max(1, len(edits.indices) // LOOKED_AT)].tolist()
    images = torch.stack([torch.as_tensor(dataset[index][0]) for index in looked_at])
    return {
        "weights": fingerprint(network.state_dict()),
        "labels": fingerprint({"labels": base.labels}),
        "edits": fingerprint({"indices": edits.indices, "labels": edits.labels, "images": images}),
        **editor_identity(evaluator.editor),
        "sampling": evaluator.sampling and asdict(evaluator.sampling),
        "scoring": asdict(evaluator.scoring),
        **settings,
    }


def is_kept(folder: Path) -> bool:
    """Return whether a run's folder holds an unfinished evaluation."""
    return any(folder.glob(PATTERN))


def require_kept(folder: Path) -> None:
    """Raise a ``UserError`` where a run's folder holds no unfinished evaluation."""
    if not is_kept(folder):
        raise UserError(
            f"evaluation.resume: there is no unfinished evaluation in '{folder}', which has no {NAME}; leave the "
            "option out to begin anew"
        )


def read_progress(folder: Path, rank: int, identity: Mapping[str, Any]) -> EditProgress | None:
    """Return what a process of an interrupted evaluation has done; none where it had nothing done yet.

    Args:
        folder: The other run's.
        rank: Of the process.
        identity: What the outcomes of this evaluation depend on.

    Raises:
        UserError: If there is no unfinished evaluation, it is damaged, or it was another one.
    """
    require_kept(folder)
    path = folder / _name(rank)
    if not path.exists():
        return None
    there, progress = _read(path)
    require_same_run(f"evaluation.resume: the evaluation in '{folder}' was another one", there, identity)
    return progress


def _read(path: Path) -> tuple[dict[str, Any], EditProgress]:
    try:
        tensors, texts = read_tensors(path)
        sampler = {name.removeprefix(SAMPLER): tensors[name] for name in tensors if name.startswith(SAMPLER)}
        outcomes = EditOutcomes(*(tensors[name] for name in EditOutcomes._fields))
        return json.loads(texts["identity"]), EditProgress(outcomes, sampler)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"evaluation.resume: '{path}' is not what an evaluation has left ({error})") from error


def _name(rank: int) -> str:
    return NAME if rank == 0 else f"evaluation-{rank}.safetensors"
