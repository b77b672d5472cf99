"""Images that are being made: damaged records and those of other images are named, files have names of their own."""

import pytest
import torch

from editable.callbacks.manipulate.unfinished_folder import MadeImage, UnfinishedFolder, file_stems
from editable.errors import UserError


def test_damaged_records_are_named(tmp_path):
    unfinished = UnfinishedFolder(tmp_path / "out", {"settings": 1})
    unfinished.put(3, torch.zeros(3, 2, 2))
    unfinished.write(0, [MadeImage(3, 0.5), MadeImage(4, 0.5), MadeImage(5, 0.0)])
    assert unfinished.read() == [(3, 0.5), (5, 0.0)], "the file of 4 is not there"
    with pytest.raises(UserError, match="of an interrupted run with other settings"):
        UnfinishedFolder(tmp_path / "out", {"settings": 2}).read()
    (tmp_path / "out.unfinished" / "made-0.json").write_text("{")
    with pytest.raises(UserError, match=r"made-0\.json' is damaged .*: remove '.*out\.unfinished' to begin anew"):
        unfinished.read()


def test_names_are_of_their_own_in_a_class():
    names = ["cat/1.jpg", "cat/1.png", "dog/1.jpg", "cat/2.jpg", "dog/a/3.jpg", "000007"]
    classes = ["cat", "cat", "dog", "cat", "dog", "dog"]
    assert file_stems(names, classes) == ["1.jpg", "1.png", "1", "2", "a-3", "000007"]
