"""The corrections that were kept, each with a switch: what is on is a stack of patches, and all of it lies in files."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from torch import Tensor

from editable.app.bench import Asked
from editable.atomic import write_atomically
from editable.editing import EditPatch, EditRecord
from editable.editing.patches.stack import drop
from editable.errors import UserError
from editable.models.tensor_file import read_tensors, write_tensors
from editable.text_files import read_json

__all__ = ["Correction", "Ledger", "Make"]

try:
    import fcntl
except ImportError:  # no POSIX system: two apps on one folder are not noticed
    fcntl = None  # type: ignore[assignment]

INDEX = "corrections.json"
FORMAT = "editable.app 1"

Stack = tuple[int, ...]
"""The numbers of corrections that are on, in their order."""

Make = Callable[[Sequence[EditPatch], Asked], EditPatch]
"""``make(before, asked)``: make a correction again, on top of the patches before it."""


@dataclass(frozen=True)
class Correction:
    """A correction that was kept.

    Attributes:
        number: From 1, in the order in which they were kept.
        sentence: What was asked.
        by: What has made it, in words.
        harm: What it cost when it was made, in words.
        time: When it was kept, in UTC.
        is_on: Whether the network has it.
    """

    number: int
    sentence: str
    by: str
    harm: str
    time: str
    is_on: bool


class Ledger:
    """The corrections of one network in a folder, and for each setting of their switches the patches that make it.

    A setting that was there before is made of the same files again, bit for bit. One that was not is made as ``patches
    drop`` does, of the nearest that has more, or else by making again what comes behind the first difference. The
    folder has ``corrections.json``, and a file for each patch and for what was asked; the index is written last, so
    that it never names a file that is not there.

    Args:
        folder: Where it lies; made if there is none.
        base: Fingerprint of the unedited network.

    Attributes:
        folder: As given.
        corrections: In the order in which they were kept.
        on: The numbers of those that are on.

    Raises:
        UserError: If the folder cannot be used, has another network's corrections or damaged ones, or another app is
            at it.
    """

    def __init__(self, folder: Path, base: str) -> None:
        self.folder, self._base = folder, base
        self.corrections: list[Correction] = []
        self._stacks: dict[Stack, tuple[str, ...]] = {(): ()}
        self._patches: dict[str, EditPatch] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(folder)
        except OSError as error:
            raise UserError(f"app.folder: '{folder}' cannot be made or written to ({error.strerror})") from error
        try:
            if (folder / INDEX).exists():
                self._read()
        except BaseException:
            self.close()
            raise

    @property
    def on(self) -> Stack:
        """The numbers of those that are on, in their order."""
        return tuple(some.number for some in self.corrections if some.is_on)

    @property
    def patches(self) -> list[EditPatch]:
        """The patches of those that are on, each on what the ones before it leave."""
        return self._of(self.on)

    def path_of(self, patch: EditPatch) -> Path:
        """Return the file of a patch."""
        return self.folder / next(name for name, some in self._patches.items() if some is patch)

    def asked(self, number: int) -> Asked:
        """Return what a correction was asked for.

        Raises:
            UserError: If its file is gone or damaged.
        """
        path = self.folder / f"asked-{number}.safetensors"
        try:
            tensors, texts = read_tensors(path, sealed=False)
            return Asked(tensors["image"], texts["name"], int(texts["label"]), tensors.get("mask"))
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"'{path}' is not what a correction was asked for: it is missing or damaged") from error

    def keep(self, asked: Asked, by: str, patch: EditPatch) -> Correction:
        """Add a correction that was made on those that are on, and switch it on.

        Args:
            asked: For what.
            by: What has made it, in words.
            patch: The correction.
        """
        number = max((some.number for some in self.corrections), default=0) + 1
        record = patch.record
        harm = "" if record.harm is None else record.harm.sentence()
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        made = Correction(number, record.sentence, by, harm, now, True)
        tensors = {"image": asked.image} | ({} if asked.mask is None else {"mask": asked.mask})
        path = self.folder / f"asked-{number}.safetensors"
        write_tensors(path, tensors, {"name": asked.name, "label": str(asked.label)})
        stacks = self._stacks | {(*self.on, number): (*self._stacks[self.on], self._save(patch))}
        self._write([*self.corrections, made], stacks)
        return made

    def stack_for(self, number: int, is_on: bool, state: Mapping[str, Tensor], make: Make) -> list[EditPatch]:
        """Return the patches for another position of one switch, each on what the ones before it leave.

        Args:
            number: Of the correction.
            is_on: Whether it shall be on.
            state: State dict of the unedited network, on the CPU.
            make: Makes a correction again.

        Raises:
            UserError: If there is no such correction, or one cannot be made again.
        """
        wanted = self._wanted(number, is_on)
        if wanted not in self._stacks:
            above = [some for some in self._stacks if len(some) == len(wanted) + 1 and set(wanted) < set(some)]
            names = self._dropped(above[0], wanted, state, make) if above else self._made(wanted, make)
            self._stacks[wanted] = names
        return self._of(wanted)

    def switch(self, number: int, is_on: bool) -> None:
        """Set a switch for good, whose stack :meth:`stack_for` has returned."""
        wanted = set(self._wanted(number, is_on))
        self._write([replace(some, is_on=some.number in wanted) for some in self.corrections], self._stacks)

    def close(self) -> None:
        """Let others at the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _wanted(self, number: int, is_on: bool) -> Stack:
        if all(some.number != number for some in self.corrections):
            raise UserError(f"there is no correction {number}")
        return tuple(some.number for some in self.corrections if (is_on if some.number == number else some.is_on))

    def _dropped(self, above: Stack, wanted: Stack, state: Mapping[str, Tensor], make: Make) -> tuple[str, ...]:
        """Drop the one correction that a stack has more."""
        patches, place = self._of(above), next(i for i, some in enumerate(above) if some not in wanted)

        def again(
            position: int, asked: Sequence[EditRecord], before: Sequence[EditPatch], _: Mapping[str, Tensor]
        ) -> EditPatch:
            return make(before, self.asked(above[position]))

        left = drop(patches, state, place + 1, [f"correction {some}" for some in above], again)
        old = dict(zip(map(id, patches), self._stacks[above], strict=True))
        return tuple(old.get(id(some.patch)) or self._save(some.patch) for some in left)

    def _made(self, wanted: Stack, make: Make) -> tuple[str, ...]:
        """Make again what comes behind the longest beginning that is known."""
        known = max((some for some in self._stacks if wanted[: len(some)] == some), key=len)
        names = list(self._stacks[known])
        for number in wanted[len(known) :]:
            patch = make([self._patch(name) for name in names], self.asked(number))
            names.append(self._save(patch))
        return tuple(names)

    def _of(self, stack: Stack) -> list[EditPatch]:
        return [self._patch(name) for name in self._stacks[stack]]

    def _patch(self, name: str) -> EditPatch:
        if name not in self._patches:
            self._patches[name] = EditPatch.load(self.folder / name)
        return self._patches[name]

    def _save(self, patch: EditPatch) -> str:
        taken = {path.name for path in self.folder.glob("patch-*.safetensors")}
        name = next(name for count in range(1, len(taken) + 2) if (name := f"patch-{count}.safetensors") not in taken)
        patch.save(self.folder / name)
        self._patches[name] = patch
        return name

    def _write(self, corrections: list[Correction], stacks: dict[Stack, tuple[str, ...]]) -> None:
        """Write the index; only then is it so."""
        content = {
            "format": FORMAT,
            "network": self._base,
            "corrections": [asdict(some) for some in corrections],
            "stacks": [{"on": list(on), "patches": list(names)} for on, names in stacks.items()],
        }
        with write_atomically(self.folder / INDEX) as temporary:
            temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        self.corrections, self._stacks = corrections, stacks

    def _read(self) -> None:
        path = self.folder / INDEX
        content: Any = read_json(path)
        try:
            if content["format"] != FORMAT:
                raise ValueError("it is of another format")
            network = str(content["network"])
            self.corrections = [Correction(**some) for some in content["corrections"]]
            self._stacks = {tuple(some["on"]): tuple(some["patches"]) for some in content["stacks"]}
            numbers = [some.number for some in self.corrections]
            if not all(map(_is_whole, self.corrections)):
                raise ValueError("a correction is described otherwise")
            if self.on not in self._stacks or () not in self._stacks or sorted(set(numbers)) != numbers:
                raise ValueError("it contradicts itself")
            names = {name for names in self._stacks.values() for name in names}
            if any(Path(name).name != name for name in names):
                raise ValueError("it names files of other folders")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"'{path}' is no list of corrections that an app has left, or it is damaged") from error
        if network != self._base:
            raise UserError(
                f"'{self.folder}' has corrections of another network (fingerprint {network}; this one has "
                f"{self._base}): give another app.folder, or the weights and patches that they were made for"
            )


def _is_whole(some: Correction) -> bool:
    texts = (some.sentence, some.by, some.harm, some.time)
    return type(some.number) is int and type(some.is_on) is bool and all(isinstance(text, str) for text in texts)


def _locked(folder: Path) -> int | None:
    """Hold a folder for this process."""
    if fcntl is None:
        return None
    handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise UserError(f"another app is at '{folder}' already: end it, or give another app.folder") from None
    except OSError:  # a file system without locks
        with suppress(OSError):
            os.close(handle)
        return None
    return handle
