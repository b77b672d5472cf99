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
from editable.models.tied import spread_tied, tied_names

__all__ = ["EditPatch", "EditRecord"]

FORMAT = "editable.EditPatch 1"
FIELDS = {"format", "base", "edited", "record"}


@dataclass(frozen=True)
class EditRecord:
    """What a patch tells of its edit.

    Attributes:
        asked: What was asked for, in sentences.
        made_by: The editor or solver and its settings, as JSON holds them.
        measured_on: The images that the outcome was measured on, in words.
        outcome: Figures by their metrics' names.
        classes: Names of the network's classes, by label; none where nobody knew them.
    """

    asked: list[str] = field(default_factory=list)
    made_by: Any = None
    measured_on: str = ""
    outcome: dict[str, float] = field(default_factory=dict)
    classes: list[str] | None = None

    @property
    def written(self) -> str:
        """The record as JSON; what nobody knew is left out."""
        return json.dumps({name: value for name, value in asdict(self).items() if name != "classes" or value})

    @classmethod
    def read(cls, text: str, path: str | Path) -> "EditRecord":
        """Read a patch's record from JSON.

        Raises:
            UserError: If it is no record: a field is missing, unknown or of another type.
        """
        try:
            content = json.loads(text)
            record = cls(**content)
            outcome, classes = record.outcome, record.classes
            fits = (
                set(content) - {"classes"} == {"asked", "made_by", "measured_on", "outcome"}
                and isinstance(record.asked, list)
                and all(isinstance(some, str) for some in record.asked)
                and isinstance(record.measured_on, str)
                and isinstance(outcome, dict)
                and all(isinstance(some, int | float) for some in outcome.values())
                and (classes is None or (isinstance(classes, list) and all(isinstance(some, str) for some in classes)))
            )
        except (ValueError, TypeError):
            fits = False
        if not fits:
            raise UserError(f"'{path}' is a damaged edit patch: its record is not what an edit or a rewrite has left")
        return record


@dataclass(frozen=True)
class EditPatch:
    """The change that an edit or a rewrite makes to a network, apart from the network.

    It has the new values of the changed tensors, so that applying it is exact, and the fingerprints of all weights
    before and after. It fits the weights that it was made for and no others; patches stack, each on what the ones
    before it have left. The network's own file never changes: what is left out of the list is taken back. A tensor that
    the network holds under several names is one, and is in the patch once.

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

        Raises:
            UserError: If the network has no such parameter, or one of another shape, or a value is no finite number.
        """
        own, tied = network.state_dict(), tied_names(network)
        _check_fit(params, own, "the edit")
        changed = {
            tied[name][0]: param.detach().to("cpu", own[name].dtype, copy=True).contiguous()
            for name, param in params.items()
            if not torch.equal(param.detach().to(own[name]), own[name])
        }
        after = fingerprint(own | spread_tied(network, changed))
        return cls(changed, fingerprint(own), after, record or EditRecord())

    def save(self, path: str | Path) -> None:
        """Write the patch as a safetensors file, whole or not at all.

        Args:
            path: The file; an existing one is replaced.
        """
        described = {
            "format": FORMAT,
            "base": self.base,
            "edited": self.edited,
            "record": self.record.written,
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
        if set(described) != FIELDS:
            odd = sorted(set(described) ^ FIELDS)
            raise UserError(f"'{path}' is a damaged edit patch: its fields differ from a patch's in {', '.join(odd)}")
        for name, value in params.items():
            _check_finite(name, value, f"the patch '{path}'")
        return cls(params, described["base"], described["edited"], EditRecord.read(described["record"], path))

    @contextmanager
    def applied(self, network: nn.Module, name: str = "the patch") -> Iterator[None]:
        """Put tensors with the changed values into a network, and its own ones back at the end, the same objects.

        What is taken of the network inside, a ``state_dict()``, a copy, a trace or an export, has the patched tensors
        and keeps them when the block has ended. What looks at the network anew each time, such as a
        :class:`~editable.models.SplitNetwork` that was made inside, is the unpatched network from then on. Training
        inside would train the patched tensors, which are gone at the end.

        Args:
            network: The network with the weights that the patch was made for.
            name: Of the patch, for messages.

        Raises:
            UserError: If the network has other weights, or the patch's values are not those that were saved or do not
                fit; nothing is changed then.
        """
        own = network.state_dict()
        found = fingerprint(own)
        if found != self.base:
            raise UserError(
                f"{name} was made for other weights (fingerprint {self.base}; these have {found}): give the checkpoint "
                "that was edited, and before this patch those patches that it was made on, in the same order"
            )
        _check_fit(self.params, own, name)
        values = spread_tied(network, self.params)
        if fingerprint(own | values) != self.edited:
            raise UserError(f"{name} is damaged: its values are not those that were saved")
        with _replaced(network, values):
            yield


@contextmanager
def _replaced(network: nn.Module, values: Mapping[str, Tensor]) -> Iterator[None]:
    """Put new parameters and buffers into a network; those of one value, of a tied tensor, are one."""
    before: dict[tuple[nn.Module, str], Tensor] = {}
    made: dict[int, Tensor] = {}
    try:
        for name, value in values.items():
            path, _, attribute = name.rpartition(".")
            module = network.get_submodule(path)
            own = getattr(module, attribute)
            if (module, attribute) not in before:
                before[module, attribute] = own
                if id(value) not in made:
                    new = torch.empty_like(own, requires_grad=False).copy_(value)
                    is_parameter = isinstance(own, nn.Parameter)
                    made[id(value)] = nn.Parameter(new, own.requires_grad) if is_parameter else new
                setattr(module, attribute, made[id(value)])
        yield
    finally:
        for (module, attribute), own in before.items():
            there = getattr(module, attribute)
            if (own.device, own.dtype) != (there.device, there.dtype):  # the network was moved meanwhile
                own.data = own.data.to(there.device, there.dtype)
            setattr(module, attribute, own)


def _check_fit(values: Mapping[str, Tensor], own: Mapping[str, Tensor], what: str) -> None:
    """Refuse values that are no parameters of a network, before anything is written."""
    for name, value in values.items():
        if name not in own:
            raise UserError(f"{what} changes '{name}', which the network has not")
        if value.shape != own[name].shape:
            raise UserError(
                f"{what} has '{name}' of shape {list(value.shape)}, the network of shape {list(own[name].shape)}"
            )
        _check_finite(name, value, what)


def _check_finite(name: str, value: Tensor, what: str) -> None:
    if value.is_floating_point() and not value.isfinite().all():
        raise UserError(f"{what} has {int((~value.isfinite()).sum())} values in '{name}' that are NaN or infinite")
