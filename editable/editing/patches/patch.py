"""An edit in a file: what it changed, for which weights, what was asked, and what came out."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from editable.atomic import write_atomically
from editable.errors import UserError
from editable.models import fingerprint

__all__ = ["EditPatch", "EditRecord"]

FORMAT = "editable.EditPatch 1"


@dataclass(frozen=True)
class EditRecord:
    """What a patch tells of its edit.

    Attributes:
        asked: What was asked for, in sentences.
        made_by: The editor or solver and its settings, as JSON holds them.
        measured_on: The images that the outcome was measured on, in words.
        outcome: Figures by their metrics' names.
    """

    asked: list[str] = field(default_factory=list)
    made_by: Any = None
    measured_on: str = ""
    outcome: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class EditPatch:
    """The change that an edit or a rewrite makes to a network, apart from the network.

    It has the new values of the changed tensors, so that applying it is exact, and the fingerprints of all weights
    before and after. It fits the weights that it was made for and no others; patches stack, each on what the ones
    before it have left. The network's own file never changes: what is left out of the list is taken back.

    Attributes:
        params: New values by name, on the CPU; only what the edit changed.
        base: Fingerprint of the state dict that it was made for.
        edited: Fingerprint of the state dict with the patch.
        record: What was asked and what came out.

    Example:
        >>> network = nn.Linear(2, 2)
        >>> patch = EditPatch.of(network, {"bias": torch.ones(2)})
        >>> with patch.applied(network):
        ...     network.bias.tolist()
        [1.0, 1.0]
    """

    params: dict[str, Tensor]
    base: str
    edited: str
    record: EditRecord

    @classmethod
    def of(cls, network: nn.Module, params: Mapping[str, Tensor], record: EditRecord | None = None) -> "EditPatch":
        """Make the patch that puts edited parameters in place of a network's own.

        Args:
            network: The unedited network.
            params: Edited parameters by name, as an editor returns them; those that are as before are left out.
            record: What was asked and what came out.
        """
        own = network.state_dict()
        changed = {
            name: param.detach().to("cpu", own[name].dtype, copy=True).contiguous()
            for name, param in params.items()
            if not torch.equal(param.detach().to(own[name]), own[name])
        }
        return cls(changed, fingerprint(own), fingerprint(own | changed), record or EditRecord())

    def save(self, path: str | Path) -> None:
        """Write the patch as a safetensors file, whole or not at all.

        Args:
            path: The file; an existing one is replaced.
        """
        described = {
            "format": FORMAT,
            "base": self.base,
            "edited": self.edited,
            "record": json.dumps(asdict(self.record)),
        }
        with write_atomically(path) as temporary:
            save_file(self.params, temporary, metadata=described)

    @classmethod
    def load(cls, path: str | Path) -> "EditPatch":
        """Read a patch, as data and never as code.

        Raises:
            UserError: If the file is missing, broken, or no patch.
        """
        if not Path(path).is_file():
            raise UserError(f"there is no edit patch at '{path}'")
        try:
            with safe_open(path, framework="pt") as file:
                described = file.metadata() or {}
                params = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no dict
        except (SafetensorError, OSError) as error:
            raise UserError(f"cannot read '{path}', which is no complete safetensors file") from error
        if described.get("format") != FORMAT:
            raise UserError(
                f"'{path}' is no edit patch of this version: give a file that an edit or a rewrite has left"
            )
        record = EditRecord(**json.loads(described["record"]))
        return cls(params, described["base"], described["edited"], record)

    @contextmanager
    def applied(self, network: nn.Module, name: str = "the patch") -> Iterator[None]:
        """Put the changed values into a network, and its own ones back at the end, bit for bit.

        Args:
            network: The network with the weights that the patch was made for.
            name: Of the patch, for messages.

        Raises:
            UserError: If the network has other weights, or the patch's values are not those that were saved; nothing is
                changed then.
        """
        own = network.state_dict()
        found = fingerprint(own)
        if found != self.base:
            raise UserError(
                f"{name} was made for other weights (fingerprint {self.base}; these have {found}): give the checkpoint "
                "that was edited, and before this patch those patches that it was made on, in the same order"
            )
        if fingerprint(own | self.params) != self.edited:
            raise UserError(f"{name} is damaged: its values are not those that were saved")
        before = {name: own[name].clone() for name in self.params}
        _write(network, self.params)
        try:
            yield
        finally:
            _write(network, before)


@torch.no_grad()
def _write(network: nn.Module, values: Mapping[str, Tensor]) -> None:
    own = network.state_dict()
    for name, value in values.items():
        own[name].copy_(value)
