"""What ``python train.py patches`` does: show, list and verify patches, merge them, and drop an edit."""

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from torch import Tensor

from editable.command_line.options.patches import options
from editable.command_line.progress import tracked
from editable.editing import EditPatch, EditRecord
from editable.editing.patches.on_states import with_patch, without_patch
from editable.editing.patches.stack import drop, merge, place_of
from editable.errors import UserError
from editable.models.weights import read_state
from editable.patches_command.again import make_again
from editable.patches_command.tables import about, edits, tensors

__all__ = ["patches"]


def patches(args: Sequence[str]) -> None:
    """Run ``python train.py patches``.

    Args:
        args: Command line arguments after the subcommand.

    Raises:
        UserError: If a file is missing, damaged or no patch, patches do not stack, or a place is taken.
    """
    asked, console = options().parse_args(list(args)), Console()
    twice = [file for file in asked.files if asked.files.count(file) > 1]
    if twice:
        raise UserError(f"'{twice[0]}' is given twice: a patch can be put in once")
    read = [EditPatch.load(file) for file in asked.files]
    if asked.what == "list":
        console.print(edits(read, asked.files).terminal())
    elif asked.what == "show":
        for patch, file in zip(read, asked.files, strict=True):
            console.print(about(patch, file).terminal(), tensors(patch).terminal())
    elif asked.what == "verify":
        _verify(console, read, asked.files, asked.weights)
    elif asked.what == "merge":
        _merge(console, read, asked.files, asked.weights, Path(asked.out))
    else:
        _drop(console, read, asked.files, asked.weights, asked.number, Path(asked.out))


def _verify(console: Console, read: Sequence[EditPatch], files: Sequence[str], weights: str | None) -> None:
    for place in range(1, len(read)):
        before, after = read[place - 1], read[place]
        names = [name for patch in read[:place] for name in patch.changes]
        again = [layer for layer in after.layers if any(name.startswith(layer.prefix) for name in names)]
        if again or (not after.layers and after.base != before.edited):
            raise UserError(
                f"'{files[place]}' was not made on '{files[place - 1]}', which leaves the fingerprint {before.edited}, "
                f"but on {after.base}: give patches in the order of their making, and all of them"
            )
    if weights is None:
        _say(
            console,
            f"{_count(read)}: the files are whole, and each was made on the one before; --weights looks at every value",
        )
        return
    state = read_state(weights, read[0].base)
    with tracked(list(zip(read, files, strict=True)), "patches", console=console) as shown:
        for patch, name in shown:
            patched = with_patch(state, patch, _named(name))
            if patch.versions:  # format 1 does not tell what there was
                without_patch(patched, patch, _named(name))
            state = patched
    _say(console, f"{_count(read)}: put in and taken out bit for bit on the weights in '{weights}'")


def _merge(console: Console, read: Sequence[EditPatch], files: Sequence[str], weights: str, out: Path) -> None:
    _require_free(out)
    patch = merge(read, read_state(weights, read[0].base), list(map(_named, files)))
    patch.save(out)
    _say(
        console, f"{out}: {_count([patch])}, {patch.num_bytes / 1e6:.3f} MB of {_bytes(read) / 1e6:.3f} MB in all files"
    )


def _drop(
    console: Console, read: Sequence[EditPatch], files: Sequence[str], weights: str, number: int, out: Path
) -> None:
    _require_free(out)
    place, edit = place_of(read, number)
    state = read_state(weights, read[0].base)
    _say(console, f"dropped: edit {number}, {read[place].edits[edit].sentence}")
    written: list[Path] = []
    out.mkdir(parents=True)

    def keep(patch: EditPatch) -> None:
        written.append(out / f"{len(written) + 1}.safetensors")
        patch.save(written[-1])

    def again(
        position: int, asked: Sequence[EditRecord], before: Sequence[EditPatch], _: Mapping[str, Tensor]
    ) -> EditPatch:
        for patch in before[len(written) :]:
            keep(patch)
        why = "the edit has no rows of its own" if position == place else "it changes tensors that have changed"
        _say(console, f"made again from what was asked: {files[position]}, as {why}")
        fewer = len(asked) < len(read[position].edits)
        return make_again(_named(files[position]), asked, fewer, written, out / "edits.csv")

    try:
        left = drop(read, state, number, list(map(_named, files)), again)
        for some in left[len(written) :]:
            keep(some.patch)
    except BaseException:
        with suppress(OSError):
            shutil.rmtree(out)
        raise
    for path, some in zip(written, left, strict=True):
        _say(console, f"{path}: {files[some.number]}, {some.how}")
    if any(some.how == "on other weights" for some in left):
        _say(
            console,
            "what has kept its values was made beside the dropped edit: `test --patches` tells whether it holds",
        )
    if not left:
        _say(console, "no edit is left: the network as it was needs no patch")


def _require_free(out: Path) -> None:
    if os.path.lexists(out):
        raise UserError(f"'{out}' is there already and would be overwritten: give another place")


def _named(file: str) -> str:
    return f"the patch '{file}'"


def _count(read: Sequence[EditPatch]) -> str:
    number = sum(len(patch.edits) for patch in read)
    files = f"{len(read)} patches with " if len(read) > 1 else ""
    return f"{files}{number} edit{'s' * (number != 1)}"


def _bytes(read: Sequence[EditPatch]) -> int:
    return sum(patch.num_bytes for patch in read)


def _say(console: Console, sentence: str) -> None:
    console.print(sentence, soft_wrap=True, markup=False, highlight=False)
