"""Names in one buffer are the names that went in, in workers too, and small."""

import pickle
import sys

import pytest

from editable.data.images.packed_names import PackedNames

NAMES = ["cat/1.jpg", "", "dog/Ünïcode 2.jpg", "b\udcff/3.png", "cat/1.jpg"]


@pytest.mark.parametrize("through", [lambda names: names, lambda names: pickle.loads(pickle.dumps(names))])
def test_it_is_the_sequence_that_went_in(through):
    names = through(PackedNames(iter(NAMES)))
    assert list(names) == NAMES
    assert len(names) == 5
    assert [names[-1], names[-5], names[2]] == [NAMES[-1], NAMES[0], NAMES[2]]
    assert names[1:4:2] == NAMES[1:4:2]
    assert "dog/Ünïcode 2.jpg" in names
    assert not PackedNames()
    for index in (5, -6):
        with pytest.raises(IndexError):
            names[index]


@pytest.mark.parametrize(("folder", "start"), [("/data", "/data/"), (".", ""), ("a/b/", "a/b/"), ("/", "/")])
def test_paths_below_a_folder(folder, start):
    assert list(PackedNames(NAMES).below(folder)) == [start + name for name in NAMES]


def test_a_name_takes_its_letters_and_eight_bytes():
    packed = pickle.dumps(PackedNames(f"n{number:08}/n{number:08}_{number}.JPEG" for number in range(1000)))
    letters = sum(len(f"n{number:08}/n{number:08}_{number}.JPEG") for number in range(1000))
    assert len(packed) < letters + 8 * 1001 + 500
    assert sys.getsizeof(packed) < 40 * 1000
