"""What a stream keeps of itself, so that one that was interrupted goes on from its last correction, bit for bit."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from editable.callbacks.run.outcome_file import from_plain
from editable.callbacks.run.same_run import require_same_run
from editable.callbacks.stream.outcome import StreamPoint
from editable.editing import StreamState
from editable.editing.patches.owners import first_owners, next_owners
from editable.errors import UserError
from editable.models.tensor_file import read_tensors, write_tensors

__all__ = ["STATE", "Progress", "UnfinishedStream", "read_progress"]

STATE = "stream.safetensors"
SECONDS_BETWEEN_WRITES = 10


class Progress(NamedTuple):
    """A stream in its midst.

    Attributes:
        state: All that the next correction depends on.
        success: Whether each correction so far succeeded, bool [n].
        kept: Whether it was kept, bool [n].
        seconds: How long it took, float64 [n].
        bounds: Upper bound of the harm after it, float64 [n]; NaN without a budget.
        points: Where the stream stood.
        owners: Which correction each row of the editor's own layer is of, −1 for one of the network's; empty where
            it has no rows, int64 [R].
    """

    state: StreamState
    success: Tensor
    kept: Tensor
    seconds: Tensor
    bounds: Tensor
    points: list[StreamPoint]
    owners: Tensor

    @classmethod
    def start(cls, state: StreamState) -> "Progress":
        """Return a stream before its first correction."""
        none, numbers = torch.zeros(0, dtype=torch.bool), torch.zeros(0, dtype=torch.float64)
        return cls(state, none, none, numbers, numbers, [], first_owners(state.params))

    def with_correction(
        self, state: StreamState, success: bool, kept: bool, seconds: float, bound: float
    ) -> "Progress":
        """Return the stream after one more correction."""
        return Progress(
            state,
            torch.cat([self.success, torch.tensor([success])]),
            torch.cat([self.kept, torch.tensor([kept])]),
            torch.cat([self.seconds, torch.tensor([seconds], dtype=torch.float64)]),
            torch.cat([self.bounds, torch.tensor([bound], dtype=torch.float64)]),
            self.points,
            self.owners
            if state is self.state
            else next_owners(self.owners, self.state.params, state.params, len(self.success)),
        )


class UnfinishedStream:
    """Keeps what is done of a stream.

    Args:
        folder: Of the run.
        identity: What the outcome depends on, as JSON holds it.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self._path, self._identity = folder / STATE, json.dumps(identity)
        self._unwritten: Progress | None = None
        self._written = time.monotonic()

    def keep(self, progress: Progress) -> None:
        """Take what is done so far, and write it every ten seconds."""
        self._unwritten = progress
        if time.monotonic() - self._written > SECONDS_BETWEEN_WRITES:
            self.write()

    def write(self) -> None:
        """Write what is done so far, whole or not at all."""
        if self._unwritten is None:
            return
        state, success, kept, seconds, bounds, points, owners = self._unwritten
        tensors = {f"params.{name}": some for name, some in state.params.items()}
        tensors |= {f"editor.{name}": some for name, some in state.editor.items()}
        tensors |= {"success": success, "kept": kept, "seconds": seconds, "bounds": bounds, "owners": owners}
        texts = {"identity": self._identity, "points": json.dumps([point._asdict() for point in points])}
        write_tensors(self._path, tensors, texts)
        self._unwritten, self._written = None, time.monotonic()

    def remove(self) -> None:
        """Remove what was written: the stream is at its end."""
        self._path.unlink(missing_ok=True)


def read_progress(folder: Path, identity: Mapping[str, Any], device: torch.device) -> Progress:
    """Return what an interrupted stream has done.

    Args:
        folder: Of its run.
        identity: What the outcome of this stream depends on.
        device: Where the network lives.

    Raises:
        UserError: If there is no unfinished stream, it is damaged, or it was another one.
    """
    path = folder / STATE
    if not path.is_file():
        raise UserError(
            f"stream.resume: there is no unfinished stream in '{folder}', which has no {STATE}; leave the option out "
            "to begin anew"
        )
    try:
        tensors, texts = read_tensors(path)
        there, points = (json.loads(texts[name]) for name in ("identity", "points"))
        done = (tensors["success"], tensors["kept"], tensors["seconds"], tensors["bounds"])
        state = StreamState(_under("params.", tensors, device), _under("editor.", tensors, device))
        progress = Progress(state, *done, from_plain(points, list[StreamPoint]), tensors["owners"])
        there = from_plain(there, dict[str, Any])
        if any(some.shape != (len(done[0]),) for some in done) or (done[0].dtype, done[1].dtype) != 2 * (torch.bool,):
            raise ValueError("it has not the same for each correction")
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"stream.resume: '{path}' is not what a stream has left ({error})") from error
    require_same_run(f"stream.resume: the stream in '{folder}' was another one", there, identity)
    return progress


def _under(prefix: str, tensors: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): some.to(device) for name, some in tensors.items() if name.startswith(prefix)}
