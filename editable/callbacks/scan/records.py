"""What a scan has seen of each image so far, kept on disk so that an interrupted scan goes on from there."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from editable.callbacks.run.outcome_file import from_plain
from editable.callbacks.run.same_run import require_same_run
from editable.errors import UserError
from editable.models.tensor_file import read_tensors, write_tensors

__all__ = ["NAME", "ScanRecords", "look_at", "read_records", "write_records"]

PATTERN = "scan*.safetensors"
NAME = "scan.safetensors"


class ScanRecords(NamedTuple):
    """What became of images, n of them; r networks were looked at, each before and after the replacement.

    Where the concept was not found, there is nothing to replace, and the last three are 0.

    Attributes:
        positions: Of the images among all test images, int64 [n].
        found: Whether the concept was found, bool [n].
        predictions: Predicted labels, int64 [n, r, 2].
        top: Probability of the predicted label, float32 [n, r, 2].
        true: Probability of the true label, float32 [n, r, 2].
    """

    positions: Tensor
    found: Tensor
    predictions: Tensor
    top: Tensor
    true: Tensor

    @staticmethod
    def join(parts: Iterable["ScanRecords"]) -> "ScanRecords":
        """Return all of some records, sorted by position; there must be some."""
        joined = [torch.cat(fields) for fields in zip(*parts, strict=True)]
        order = joined[0].argsort()
        return ScanRecords(*(field[order] for field in joined))

    @property
    def of_found(self) -> "ScanRecords":
        """Those where the concept was found."""
        return ScanRecords(*(field[self.found] for field in self))


def look_at(logits: Tensor, labels: Tensor, positions: Tensor, found: Tensor) -> ScanRecords:
    """Return what is kept of the logits of some images.

    Args:
        logits: Of the images where the concept was found, [m, r, 2, classes].
        labels: True labels of all, int64 [n].
        positions: Of all among the test images, int64 [n].
        found: Which are those where it was found, bool [n], m of them.

    Returns:
        The records, on the CPU.
    """
    probabilities = logits.float().softmax(dim=-1)
    top, predictions = probabilities.max(dim=-1)
    index = labels[found].to(logits.device)[:, None, None, None].expand(*logits.shape[:3], 1)
    of_found = (predictions, top, probabilities.gather(-1, index).squeeze(-1))
    fields = []
    for values in of_found:
        field = torch.zeros(len(found), *values.shape[1:], dtype=values.dtype)
        field[found] = values.cpu()
        fields.append(field)
    return ScanRecords(positions, found, *fields)


def write_records(folder: Path, rank: int, identity: dict[str, Any], records: ScanRecords) -> None:
    """Keep the records of one process.

    Args:
        folder: Where the file goes.
        rank: Of the process.
        identity: What the records depend on, as JSON holds it.
        records: All so far.
    """
    path = folder / (NAME if rank == 0 else f"scan-{rank}.safetensors")
    write_tensors(path, records._asdict(), {"identity": json.dumps(identity)})


def read_records(folder: Path, identity: dict[str, Any]) -> ScanRecords:
    """Return the records that an interrupted scan, of any number of processes, has left.

    Args:
        folder: Its run folder.
        identity: What records of this scan depend on.

    Raises:
        UserError: If there are none, a file is damaged, or they are of another scan.
    """
    paths = sorted(folder.glob(PATTERN))
    if not paths:
        raise UserError(f"scan.resume: there is no scan in '{folder}', which has no {NAME}")
    parts = []
    for path in paths:
        there, records = _read(path)
        require_same_run(f"scan.resume: the scan in '{folder}' was another one", there, identity)
        parts.append(records)
    joined = ScanRecords.join(parts)
    _check(joined, identity, folder)
    return joined


def _check(records: ScanRecords, identity: dict[str, Any], folder: Path) -> None:
    """Look at records of all processes, as far as they can be known to be wrong."""
    positions, num_images = records.positions, identity.get("num_images")
    twice = len(positions) - len(positions.unique())
    if twice or (len(positions) and (positions[0] < 0 or (num_images is not None and positions[-1] >= num_images))):
        what = f"{twice} images twice" if twice else f"images that are none of the {num_images}"
        raise UserError(f"scan.resume: the scan in '{folder}' is damaged: it has {what}; begin anew without the option")
    networks = records.predictions.shape[1]
    expected = 1 if identity.get("edited") is None else 2
    if networks != expected:
        raise UserError(
            f"scan.resume: the scan in '{folder}' looked at {networks} networks in place of {expected}; begin anew "
            "without the option"
        )


def _read(path: Path) -> tuple[dict[str, Any], ScanRecords]:
    try:
        tensors, texts = read_tensors(path)
        identity: dict[str, Any] = from_plain(json.loads(texts["identity"]), dict[str, Any])
        return identity, ScanRecords(*(tensors[name] for name in ScanRecords._fields))
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"scan.resume: '{path}' is not what a scan has left ({error})") from error
