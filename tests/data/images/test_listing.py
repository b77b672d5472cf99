"""Which files of a folder are images: hidden ones are none, folders are visited once, and what is left out is said."""

import os
from pathlib import Path

import pytest
from torchvision.datasets import ImageFolder

from editable.data.images.listing import list_class_images, list_images, subfolders
from editable.errors import UserError
from tests.warned import no_warning


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def listed(root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in list_images(root).paths]


def test_the_order_is_torchvisions(tmp_path: Path):
    touch(
        tmp_path,
        "b/z.jpg",
        "b/a.PNG",
        "b/Z.jpg",
        "b/m/1.jpg",
        "b/m-2/1.jpg",
        "b/m.3/1.webp",
        "a/é.jpg",
        "a/10.jpg",
        "a/9.jpg",
    )
    names, labels = list_class_images(tmp_path, ["a", "b"])
    theirs = ImageFolder(tmp_path, allow_empty=True).samples
    assert list(zip(names.below(tmp_path), labels.tolist(), strict=True)) == theirs


def test_hidden_files_and_folders_are_left_out_unsaid(tmp_path: Path):
    touch(tmp_path, "cat/1.jpg", "cat/.ipynb_checkpoints/1.jpg", "cat/._1.jpg", ".cache/1.jpg", "dog/.DS_Store")
    assert subfolders(tmp_path) == ["cat", "dog"]
    assert listed(tmp_path) == ["cat/1.jpg"]
    with no_warning():
        list_class_images(tmp_path, subfolders(tmp_path))


def test_files_of_other_formats_are_said_once_with_counts(tmp_path: Path):
    touch(tmp_path, "cat/1.jpg", "cat/2.gif", "cat/3.gif", "dog/4.heic", "dog/README", "dog/5.jpg")
    with pytest.warns(
        UserWarning, match=r"4 files below .* left out, such as 2\.gif \(2 \.gif, 1 \.heic, 1 no ending\)"
    ):
        names, labels = list_class_images(tmp_path, ["cat", "dog"])
    assert list(names) == ["cat/1.jpg", "dog/5.jpg"]
    assert labels.tolist() == [0, 1]


@pytest.mark.parametrize("target", [".", "..", "../dog"])
def test_a_folder_is_visited_once(tmp_path: Path, target: str):
    """A link to the folder itself, to the one above it, or to another class adds nothing."""
    touch(tmp_path, "cat/1.jpg", "dog/2.jpg")
    os.symlink(target, tmp_path / "cat" / "more", target_is_directory=True)
    names, labels = list_class_images(tmp_path, ["cat", "dog"])
    assert list(names) == ["cat/1.jpg", "dog/2.jpg"]
    assert labels.tolist() == [0, 1]
    assert len(listed(tmp_path / "cat")) == (1 if target == "." else 2)


def test_links_to_elsewhere_are_followed(tmp_path: Path):
    touch(tmp_path, "elsewhere/1.jpg", "elsewhere/deep/2.jpg")
    (tmp_path / "root" / "dog").mkdir(parents=True)
    os.symlink(tmp_path / "elsewhere", tmp_path / "root" / "cat")
    os.symlink(tmp_path / "elsewhere", tmp_path / "root" / "dog" / "also")
    assert list(list_class_images(tmp_path / "root", ["cat", "dog"])[0]) == ["cat/1.jpg", "cat/deep/2.jpg"]
    os.symlink(tmp_path / "elsewhere", tmp_path / "root" / "kitten")
    with pytest.raises(UserError, match=r"class folders cat and kitten of .* are one and the same"):
        list_class_images(tmp_path / "root", ["cat", "dog", "kitten"])


def test_a_class_whose_folder_is_not_there_has_no_image(tmp_path: Path):
    touch(tmp_path, "cat/1.jpg")
    assert list_class_images(tmp_path, ["ant", "cat"])[1].tolist() == [1]


def test_a_folder_that_cannot_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Its images would be left out unsaid; the system's refusal is played, as an administrator is refused nothing."""
    (tmp_path / "cat" / "more").mkdir(parents=True)
    scan = os.scandir

    def refusing(path: str) -> object:
        if str(path).endswith("more"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(UserError, match=r"The folder .*/cat/more cannot be read \(Permission denied\)"):
        list_images(tmp_path / "cat")
