"""Images in tar files, by position: where each lies in its shard is found once, by headers, and none is unpacked."""

import posixpath
import tarfile
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS

from editable.command_line.progress import tracked
from editable.data.images.images import LabelledImages, require_size
from editable.data.images.packed_names import PackedNames
from editable.data.images.reader import read_image_bytes
from editable.errors import UserError

__all__ = ["ShardImages", "ShardIndex"]

LONGEST_LABEL = 1000
"""In bytes; a longer one is no class."""


class ShardIndex:
    """What is in some shards: each sample's image and label, which are neighbours of one name before its first dot.

    A link stands for the file of the shard that it leads to.

    Args:
        shards: The tar files, not compressed.
        label_extension: Ending of the file that has a sample's label.
        hide_bar: Whether to show no progress.

    Attributes:
        names: Of the images, ``<shard>/<name>``.
        labels: As the shards have them, one text for each image.

    Raises:
        UserError: If a file is no such tar file, a sample has no image, several, or no label, or a link leads to no
            file of its shard.
    """

    def __init__(self, shards: Sequence[Path], label_extension: str, hide_bar: bool = False) -> None:
        self.shards, self._label_extension = list(shards), label_extension
        self.shard_of, self.offsets, self.sizes = array("q"), array("q"), array("q")
        self.labels: list[str] = []
        known: dict[str, str] = {}  # a text for each class, not for each image
        names: list[str] = []
        with tracked(self.shards, "Reading shards", hide_bar) as shown:
            for number, shard in enumerate(shown):
                for name, label, offset, size in self._samples(shard):
                    names.append(name)
                    self.labels.append(known.setdefault(label, label))
                    self.shard_of.append(number)
                    self.offsets.append(offset)
                    self.sizes.append(size)
        self.names = PackedNames(names)

    def __len__(self) -> int:
        return len(self.offsets)

    def _samples(self, shard: Path) -> list[tuple[str, str, int, int]]:
        images: dict[str, tuple[str, int, int]] = {}
        labels: dict[str, str] = {}
        try:
            with tarfile.open(shard, "r:") as file:
                members = file.getmembers()
                by_name = {posixpath.normpath(member.name): member for member in members}
                for member in members:
                    folder, _, base = member.name.rpartition("/")
                    key, _, extension = base.partition(".")
                    is_image = f".{extension.lower()}".endswith(IMG_EXTENSIONS)
                    if base.startswith(".") or not (is_image or extension == self._label_extension):
                        continue
                    if not _stands_for_a_file(member):
                        continue
                    key = f"{folder}/{key}" if folder else key
                    held = _file_of(member, by_name, shard)
                    if is_image:
                        if key in images:
                            raise UserError(f"the sample '{key}' of '{shard}' has two images: a sample has one")
                        name = f"{shard.stem}/{member.name}"
                        images[key] = (name, held.offset_data, held.size)
                    elif held.size <= LONGEST_LABEL:
                        content = file.extractfile(held)
                        assert content is not None, "it is a file"
                        labels[key] = content.read().decode("utf-8", "replace").strip()
        except (tarfile.TarError, OSError) as error:
            raise UserError(
                f"'{shard}' cannot be read as a tar file that is not compressed ({error}): make it anew, or unpack it"
            ) from error
        without = next((key for key in images if key not in labels), None)
        if without is not None:
            raise UserError(
                f"the sample '{without}' of '{shard}' has no label: put it into '{without}.{self._label_extension}', "
                "or name another ending by label_extension"
            )
        without = next((key for key in labels if key not in images), None)
        if without is not None:
            raise UserError(
                f"the sample '{without}' of '{shard}' has a label, but no image of a format that is read "
                f"({', '.join(IMG_EXTENSIONS)}): write its image as one of these, or leave the sample out"
            )
        return [(name, labels[key], offset, size) for key, (name, offset, size) in images.items()]


def _stands_for_a_file(member: tarfile.TarInfo) -> bool:
    return member.isfile() or member.islnk() or member.issym()


def _file_of(member: tarfile.TarInfo, by_name: Mapping[str, tarfile.TarInfo], shard: Path) -> tarfile.TarInfo:
    """Return the file that a member is, or that links lead to from it."""
    found, passed = member, set[str]()
    while found.islnk() or found.issym():
        passed.add(posixpath.normpath(found.name))
        # a symbolic link is named as its own folder sees it, a hard one as the tar file does
        start = posixpath.dirname(found.name) if found.issym() else ""
        target = posixpath.normpath(posixpath.join(start, found.linkname))
        if target in passed or target not in by_name or not _stands_for_a_file(by_name[target]):
            raise UserError(
                f"'{member.name}' of '{shard}' is a link to '{found.linkname}', which is no file of the shard: put the "
                "file itself there (tar has --dereference)"
            )
        found = by_name[target]
    return found


class ShardImages(LabelledImages):
    """Images of shards, each read from its place in the tar file when it is asked for.

    Args:
        index: Where they are.
        labels: class indices, int64 ``[N]``.
        size: height and width in pixels that every image must have; ``None`` allows any.
    """

    def __init__(self, index: ShardIndex, labels: Tensor, size: tuple[int, int] | None = None) -> None:
        super().__init__(labels)
        self.names, self.size = index.names, size
        self._shards, self._shard_of, self._offsets = index.shards, index.shard_of, index.offsets
        self._sizes = index.sizes

    def read(self, index: int) -> Tensor:
        """Decode one image.

        Args:
            index: its position.

        Returns:
            The image, uint8 ``[3, H, W]``.

        Raises:
            ImageError: it cannot be decoded, or its size is not the one demanded.
        """
        assert self.names is not None, "shards have names"
        name, shard = self.names[index], self._shards[self._shard_of[index]]
        try:
            with open(shard, "rb") as file:
                file.seek(self._offsets[index])
                content = file.read(self._sizes[index])
        except OSError as error:
            raise UserError(f"the shard '{shard}' cannot be read any more ({error.strerror}): put it back") from error
        image = read_image_bytes(content, name)
        require_size(image, self.size, name)
        return image
