"""An edit in a file: what it changed, for which weights, what was asked, and what came out."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from editable.editing.patches.coding import Parts, changed_rows, encoded, same_bits
from editable.editing.patches.file import PatchContent, library_versions, read_patch, write_patch
from editable.editing.patches.on_states import put_into, take_out_of
from editable.editing.patches.record import EditRecord
from editable.errors import UserError
from editable.models import fingerprint
from editable.models.added.added_layers import AddedLayer, added_layers
from editable.models.added.row_layer import row_groups
from editable.models.state_dicts import tensors_of
from editable.models.tied import require_own_memory, spread_tied, tied_names

__all__ = ["EditPatch"]


@dataclass(frozen=True, repr=False)
class EditPatch:
    """The change that edits or a rewrite make to a network, apart from the network.

    It has what makes the changed tensors of those that were there, and the other way round, bit for bit, and the
    fingerprints of all weights before and after. It fits the weights that it was made for and no others; patches
    stack, each on what the ones before it have left, and are taken back in the reverse order. A tensor that the network
    holds under several names is one, and is in the patch once.

    A layer that an editor has put in, such as a codebook, is in the patch with all that it holds, and is put into a
    network that has none. Where the network has such a layer already, which is still idle, it gets the patch's.

    Attributes:
        changes: What it holds of each changed tensor, by name, on the CPU; see ``docs/patch-format.md``.
        base: Fingerprint of the state dict that it was made for, without the layers that it brings.
        edited: Fingerprint of the state dict with the patch.
        edits: What was asked and what came out, for each edit in the order in which they were made.
        layers: That it brings, in the order in which they are put in.
        tied: Further names of changed tensors, by the name that is in ``changes``.
        versions: Of libraries, when it was made.

    Example:
        >>> network = nn.Linear(2, 2)
        >>> patch = EditPatch.of(network, {"bias": torch.ones(2)})
        >>> with patch.applied(network):
        ...     network.bias.tolist()
        [1.0, 1.0]
    """

    changes: dict[str, Parts]
    base: str
    edited: str
    edits: tuple[EditRecord, ...] = ()
    layers: tuple[AddedLayer, ...] = ()
    tied: dict[str, list[str]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls, network: nn.Module, params: Mapping[str, Tensor], record: EditRecord | Sequence[EditRecord] | None = None
    ) -> "EditPatch":
        """Make the patch that puts edited parameters in place of a network's own.

        Args:
            network: The unedited network; furnished, where the editor has asked for a layer of its own.
            params: Edited parameters by name, as an editor returns them; those that are as before are left out. A
                codebook or a layer of neurons may have more rows.
            record: What was asked and what came out, of one edit or of each.

        Raises:
            UserError: If the network has no such parameter, or one of another shape or with numbers in common with
                another tensor, or a value is no finite number.
        """
        own = {name: some.detach().cpu() for name, some in tensors_of(network).items()}
        _check_fit(params, own)
        require_own_memory(network, params)
        tied = tied_names(network)
        given = {tied[name][0]: param.detach().to("cpu", own[name].dtype) for name, param in params.items()}
        _check_finite(given)
        changed = {name: value for name, value in given.items() if not same_bits(value, own[name])}
        after = own | spread_tied(network, changed)
        layers = [
            layer
            for layer in added_layers(network)
            if layer.is_idle(own) and any(name.startswith(layer.prefix) for name in changed)
        ]
        names = {name: list(tied[name][1:]) for name in changed if len(tied[name]) > 1}
        records = [] if record is None else [record] if isinstance(record, EditRecord) else record
        return cls.between(own, after, records or [EditRecord()], layers, names)

    @classmethod
    def between(
        cls,
        before: Mapping[str, Tensor],
        after: Mapping[str, Tensor],
        edits: Sequence[EditRecord],
        layers: Sequence[AddedLayer] = (),
        tied: Mapping[str, list[str]] | None = None,
    ) -> "EditPatch":
        """Make the patch between two state dicts, of the same names.

        Args:
            before: Without the edits, on the CPU; with the layers that the patch brings, idle.
            after: With the edits.
            edits: What was asked and what came out.
            layers: That the patch brings.
            tied: Further names of tensors.
        """
        tied = dict(tied or {})
        further = {name for names in tied.values() for name in names}
        changed = [name for name, value in after.items() if name not in further and not same_bits(value, before[name])]
        changes: dict[str, Parts] = {
            name: {"whole": some.contiguous().clone()}
            for layer in layers
            for name, some in before.items()
            if name.startswith(layer.prefix)
        }
        groups = row_groups(after)
        rows: dict[str, list[int]] = {}
        for place, names in groups.items():
            if any(name in changed for name in names):
                parts = changed_rows(*({name: some[name] for name in names} for some in (before, after)))
                rows[place] = list(range(len(parts[names[0]]["rows"])))
                changes |= {name: changes.get(name, {}) | own for name, own in parts.items()}
        grown = {name for names in groups.values() for name in names}
        for name in changed:
            if name not in grown:
                changes[name] = changes.get(name, {}) | encoded(before[name], after[name])
        plain = dict(before)
        for layer in reversed(layers):
            plain = layer.plain(plain)
        if len(edits) == 1:
            edits = [edits[0].with_rows(rows)]
        kept = {name: names for name, names in tied.items() if name in changed}
        return cls(
            changes, fingerprint(plain), fingerprint(after), tuple(edits), tuple(layers), kept, library_versions()
        )

    @property
    def names(self) -> list[str]:
        """Of the tensors that it changes."""
        return [name for name, parts in self.changes.items() if set(parts) != {"whole"} or not self.layers]

    @property
    def record(self) -> EditRecord:
        """What was asked in all of its edits, and what came out of the last."""
        if len(self.edits) == 1:
            return self.edits[0]
        asked = [sentence for edit in self.edits for sentence in edit.asked]
        if not self.edits:
            return EditRecord()
        last = self.edits[-1]
        return EditRecord(asked, last.made_by, last.measured_on, last.outcome, last.classes, harm=last.harm)

    @property
    def num_bytes(self) -> int:
        """Size of what it holds of tensors."""
        return sum(part.nbytes for parts in self.changes.values() for part in parts.values())

    def __repr__(self) -> str:
        """Tell what it is in a line, without its tensors."""
        names = self.names
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        asked = "; ".join(edit.sentence for edit in self.edits[:3]) + ("; …" if len(self.edits) > 3 else "")
        return (
            f"EditPatch({shown or 'changes nothing'}; {self.num_bytes / 1e6:.3f} MB; for {self.base}, leaves "
            f"{self.edited}; {asked})"
        )

    def save(self, path: str | Path) -> None:
        """Write the patch as a safetensors file of format 2, whole or not at all.

        Args:
            path: The file; an existing one is replaced.
        """
        content = self.changes, self.base, self.edited, self.edits, self.layers, self.tied, self.versions
        write_patch(path, PatchContent(*content))

    @classmethod
    def load(cls, path: str | Path) -> "EditPatch":
        """Read a patch of format 1 or 2, as data and never as code.

        Raises:
            UserError: If the file is missing, broken, or no patch.
        """
        return cls(*read_patch(path))

    def apply_(self, network: nn.Module, name: str = "the patch") -> None:
        """Put the patch into a network, in place: its own parameters get the values, whoever holds them.

        Args:
            network: The network with the weights that the patch was made for. A codebook that the patch brings takes
                its place: the object is a :class:`~editable.models.CodebookNetwork` from then on, around what it was.
            name: Of the patch, for messages.

        Raises:
            UserError: If the network has other weights, or the patch is damaged; nothing is changed then.
        """
        values = self._values(network, name)
        self._put_in_layers(network, name)
        _write(network, values)

    def revert_(self, network: nn.Module, name: str = "the patch") -> None:
        """Take the patch out of a network, in place, bit for bit; of several, the last one first.

        A layer that :meth:`apply_` has put in goes; one that was there before stays, idle, with the patch's values.

        Args:
            network: The network with the patch.
            name: Of the patch, for messages.

        Raises:
            UserError: If the network has other weights than the patch has left, the patch is damaged, or it is of
                format 1, which does not tell what there was; nothing is changed then.
        """
        own = {key: some.detach().cpu() for key, some in tensors_of(network).items()}
        _write(network, spread_tied(network, take_out_of(own, self, name)))
        for layer in reversed(self.layers):
            layer.take_out(network)

    @contextmanager
    def applied(self, network: nn.Module, name: str = "the patch") -> Iterator[None]:
        """Put tensors with the changed values into a network, and its own ones back at the end, the same objects.

        What is taken of the network inside, a ``state_dict()``, a copy, a trace or an export, has the patched tensors
        and keeps them when the block has ended. What looks at the network anew each time, such as a
        :class:`~editable.models.SplitNetwork` that was made inside, is the unpatched network from then on. Training
        inside would train the patched tensors, which are gone at the end.

        Args:
            network: The network with the weights that the patch was made for; see :meth:`apply_`.
            name: Of the patch, for messages.

        Raises:
            UserError: If the network has other weights, or the patch's values are not those that were saved or do not
                fit; nothing is changed then.
        """
        values = self._values(network, name)
        with ExitStack() as stack:
            for layer in self._put_in_layers(network, name):
                stack.callback(layer.take_out, network)
            stack.enter_context(_replaced(network, values))
            yield

    def _values(self, network: nn.Module, name: str) -> dict[str, Tensor]:
        """Return the values that the patch gives to a network, by all names."""
        own = {key: some.detach().cpu() for key, some in tensors_of(network).items()}
        require_own_memory(network, self.changes)
        tied = {some: list(names[1:]) for some, names in tied_names(network).items() if some == names[0]}
        return put_into(own, self, name, tied)

    def _put_in_layers(self, network: nn.Module, name: str) -> list[AddedLayer]:
        """Put in the layers that the network has not, and return them, the first one first."""
        there = added_layers(network)
        for layer in self.layers:
            if any(some.prefix == layer.prefix and some != layer for some in there):
                raise UserError(f"{name} brings a layer that the network has at '{layer.prefix}', of other settings")
        missing = [layer for layer in self.layers if layer not in there]
        for layer in missing:
            layer.put_in(network)
        return missing


def _write(network: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Write values into a network's own parameters and buffers; those of more rows are made anew."""
    with torch.no_grad():
        for name, value in values.items():
            path, _, attribute = name.rpartition(".")
            module = network.get_submodule(path)
            own = getattr(module, attribute)
            if own.shape == value.shape:
                own.copy_(value)
            else:
                setattr(module, attribute, _like(own, value))


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
                    made[id(value)] = _like(own, value)
                setattr(module, attribute, made[id(value)])
        yield
    finally:
        for (module, attribute), own in before.items():
            there = getattr(module, attribute)
            if (own.device, own.dtype) != (there.device, there.dtype):  # the network was moved meanwhile
                own.data = own.data.to(there.device, there.dtype)
            setattr(module, attribute, own)


def _like(own: Tensor, value: Tensor) -> Tensor:
    """Return a value as a parameter or buffer like another, in the same layout where it has the same shape."""
    new = torch.empty_like(own, requires_grad=False) if own.shape == value.shape else own.new_empty(value.shape)
    new = new.detach().copy_(value)
    return nn.Parameter(new, own.requires_grad) if isinstance(own, nn.Parameter) else new


def _check_fit(values: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Refuse values that are no parameters of a network."""
    what, grown = "the edit", {name: names for names in row_groups(own).values() for name in names}
    for name, value in values.items():
        if name not in own:
            raise UserError(f"{what} changes '{name}', which the network has not")
        fits = value.shape == own[name].shape
        if not fits and name in grown and value.ndim == own[name].ndim and value.shape[1:] == own[name].shape[1:]:
            fits = {len(values.get(some, own[some])) for some in grown[name]} == {len(value)}
        if not fits:
            raise UserError(
                f"{what} has '{name}' of shape {list(value.shape)}, the network of shape {list(own[name].shape)}"
            )
    _check_finite(values)


def _check_finite(values: Mapping[str, Tensor]) -> None:
    for name, value in values.items():
        if value.is_floating_point() and not value.isfinite().all():
            number = int((~value.isfinite()).sum())
            raise UserError(f"the edit has {number} values in '{name}' that are NaN or infinite in {value.dtype}")
