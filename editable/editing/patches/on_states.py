"""A patch on a state dict, without the network: put in and taken out, or refused with nothing changed."""

import zlib
from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor

from editable.editing.patches.coding import Parts, decoded, taken_back
from editable.errors import UserError
from editable.models.added.added_layers import AddedLayer
from editable.models.fingerprint import fingerprint

__all__ = ["Patch", "furnished", "put_into", "take_out_of", "with_patch", "without_patch"]

DAMAGED = (RuntimeError, IndexError, ValueError, TypeError, KeyError, OverflowError, zlib.error)


class Patch(Protocol):
    """What is read of an :class:`~editable.editing.EditPatch` here."""

    @property
    def changes(self) -> dict[str, Parts]: ...  # noqa: D102

    @property
    def base(self) -> str: ...  # noqa: D102

    @property
    def edited(self) -> str: ...  # noqa: D102

    @property
    def layers(self) -> tuple[AddedLayer, ...]: ...  # noqa: D102

    @property
    def tied(self) -> dict[str, list[str]]: ...  # noqa: D102


def furnished(state: Mapping[str, Tensor], patch: Patch) -> dict[str, Tensor]:
    """Return a state dict with the layers that a patch brings, as idle as they are in the patch."""
    own = dict(state)
    for layer in patch.layers:
        wholes = {
            name: parts["whole"]
            for name, parts in patch.changes.items()
            if name.startswith(layer.prefix) and "whole" in parts
        }
        plain = layer.plain(own) if layer.is_in(own) else own
        own = {layer.name_with(name): some for name, some in plain.items()} | wholes
    return own


def put_into(
    state: Mapping[str, Tensor], patch: Patch, name: str, tied: Mapping[str, list[str]] | None = None
) -> dict[str, Tensor]:
    """Return the values that a patch gives to a network: those of changed tensors, and of layers that it brings.

    Args:
        state: The network's state dict, on the CPU.
        patch: The patch.
        name: Of the patch, for messages.
        tied: Further names of tensors, where the network is there to tell; else those that the patch knows.

    Raises:
        UserError: If the state dict is another one than the patch was made for, or the patch is damaged.
    """
    found = _fingerprint_without(state, patch, name)
    if found != patch.base:
        for dtype in (torch.bfloat16, torch.float16, torch.float32, torch.float64):
            if _fingerprint_without(_in_precision(state, dtype), patch, name) == patch.base:
                raise UserError(
                    f"{name} was made for these weights in {dtype}, and here they are in another precision: run in the "
                    "one that it was made in (--trainer.precision), or make the edit anew in this one"
                )
        raise _refused(
            state,
            patch,
            name,
            f"was made for other weights (fingerprint {patch.base}; these have {found}): give the checkpoint that was "
            "edited, and before this patch those patches that it was made on, in the same order",
        )
    before = furnished(state, patch)
    names = {**patch.tied, **(tied or {})}
    values: dict[str, Tensor] = {}
    for key, parts in patch.changes.items():
        if key not in before:
            raise UserError(f"{name} changes '{key}', which the network has not")
        value = _computed(decoded, before[key], parts, name)
        whole = set(parts) == {"whole"} and not any(key.startswith(layer.prefix) for layer in patch.layers)
        if whole and value.shape != before[key].shape:
            raise UserError(
                f"{name} has '{key}' of shape {list(value.shape)}, the network of shape {list(before[key].shape)}"
            )
        if value.is_floating_point() and not value.isfinite().all():
            raise UserError(f"{name} has {int((~value.isfinite()).sum())} values in '{key}' that are NaN or infinite")
        values |= dict.fromkeys([key, *(some for some in names.get(key, ()) if some in before)], value)
    if fingerprint(before | values) != patch.edited:
        raise UserError(f"{name} is damaged: its values are not those that were saved")
    return values


def take_out_of(state: Mapping[str, Tensor], patch: Patch, name: str) -> dict[str, Tensor]:
    """Return the values that changed tensors had before a patch, and those of its layers while they were idle.

    Args:
        state: State dict of the network with the patch, on the CPU.
        patch: The patch.
        name: Of the patch, for messages.

    Raises:
        UserError: If the state dict is another one than the patch has left, the patch is damaged, or it does not tell.
    """
    found = fingerprint(state)
    if found != patch.edited:
        raise UserError(
            f"{name} is not the last one in these weights (it has left the fingerprint {patch.edited}; these have "
            f"{found}): take back what was put in after it first"
        )
    values: dict[str, Tensor] = {}
    for key, parts in patch.changes.items():
        own = any(key.startswith(layer.prefix) for layer in patch.layers)
        if set(parts) == {"whole"} and not own:
            raise UserError(
                f"{name} is of format 1, which does not tell what there was before: load the unedited weights, or "
                "write it anew by `patches merge`"
            )
        value = parts["whole"] if own else _computed(taken_back, state[key], parts, name)
        values |= dict.fromkeys([key, *patch.tied.get(key, ())], value)
    plain = {**state, **values}
    for layer in reversed(patch.layers):
        plain = layer.plain(plain)
    if fingerprint(plain) != patch.base:
        raise UserError(f"{name} is damaged: what it tells of the weights before it is not what was saved")
    return values


def with_patch(state: Mapping[str, Tensor], patch: Patch, name: str = "the patch") -> dict[str, Tensor]:
    """Return the state dict of the network with a patch; errors as of :func:`put_into`."""
    return furnished(state, patch) | put_into(state, patch, name)


def without_patch(state: Mapping[str, Tensor], patch: Patch, name: str = "the patch") -> dict[str, Tensor]:
    """Return the state dict of the plain network before a patch; errors as of :func:`take_out_of`."""
    plain = {**state, **take_out_of(state, patch, name)}
    for layer in reversed(patch.layers):
        plain = layer.plain(plain)
    return plain


def _in_precision(state: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Return a state dict with its real numbers in another precision."""
    return {key: some.to(dtype) if some.is_floating_point() else some for key, some in state.items()}


def _fingerprint_without(state: Mapping[str, Tensor], patch: Patch, name: str) -> str:
    """Return the fingerprint of a state dict without the layers that a patch brings, which have to be idle."""
    plain = dict(state)
    for layer in reversed(patch.layers):
        if layer.is_in(plain):
            if not layer.is_idle(plain):
                raise _refused(
                    state,
                    patch,
                    name,
                    f"brings a layer that the network has at '{layer.prefix}', where it is not idle any more: give the "
                    "weights that the patch was made for",
                )
            plain = layer.plain(plain)
    return fingerprint(plain)


def _refused(state: Mapping[str, Tensor], patch: Patch, name: str, otherwise: str) -> UserError:
    """Return why a patch cannot be put into a state dict: as the last one it is there already, or another reason."""
    if fingerprint(state) == patch.edited:
        return UserError(f"{name} is in these weights already: leave it out, or give the weights that it was made for")
    return UserError(f"{name} {otherwise}")


def _computed(function: Callable[[Tensor, Parts], Tensor], tensor: Tensor, parts: Parts, name: str) -> Tensor:
    """Return what a function makes of a tensor and the parts that a file has of its change."""
    try:
        return function(tensor, parts)
    except DAMAGED as error:
        raise UserError(f"{name} is damaged: what it has of a tensor does not fit it ({error})") from error
