"""A user's table of edits is read by names, positions, quotes and accents, or refused in one sentence."""

import contextlib
import csv
import io
import warnings
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import Subset

from editable.data import (
    DigitsDataModule,
    HeldOutEdits,
    ImageFolderDataModule,
    NaturalMistakeEdits,
    PlantedPatch,
    TableEdits,
)
from editable.data.modules.image_names import image_names
from editable.errors import UserError

CLASSES = ["7", "cat", "chaise à bascule", "dog, wild"]
NAMES = [f"{name}/{number}.png" for name in CLASSES for number in range(2)]
LABELS, PREDICTIONS = torch.zeros(8, dtype=torch.int64), torch.ones(8, dtype=torch.int64)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> ImageFolderDataModule:
    """Two test images of each of four classes, the folder of one with its accent as a sign of its own."""
    root = tmp_path_factory.mktemp("images")
    for name in CLASSES:
        folder = root / "test" / normalize("NFD", name)
        folder.mkdir(parents=True)
        for number in range(2):
            Image.fromarray(np.zeros((8, 8, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    module = ImageFolderDataModule(str(root))
    module.setup("test")
    return module


def write(folder: Path, content: str | bytes) -> str:
    path = folder / "fixes.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def pairs(table: str, data: ImageFolderDataModule, num_edits: int | None = None) -> list[tuple[int, int]]:
    bound = TableEdits(table).bind(data.test_dataset, data.classes)
    indices, labels = bound(LABELS, PREDICTIONS, 4, num_edits)
    assert indices.dtype == labels.dtype == torch.int64
    return list(zip(indices.tolist(), labels.tolist(), strict=True))


def test_names_files_and_positions_in_the_order_of_the_table(data, tmp_path):
    file = Path(data.test_dataset.images.paths[6])
    table = write(tmp_path, f'image,label\n5,cat\ncat/1.png,0\n"{file}",1\n0,7\n7/1.png,cat\n')
    assert pairs(table, data) == [(5, 1), (3, 0), (6, 1), (0, 0), (1, 1)]
    assert pairs(table, data, 2) == [(5, 1), (3, 0)]
    assert pairs(table, data, 1000) == pairs(table, data)


def test_a_class_by_its_name_before_its_number(data, tmp_path):
    assert pairs(write(tmp_path, "image,label\n0,7\n1,3\n"), data) == [(0, 0), (1, 3)]


@pytest.mark.parametrize(
    "content",
    [
        b"image,label\r\n2,cat\r\n7,dog\r\n",
        b"\xef\xbb\xbfimage,label\n2,cat\n7,dog\n",
        b"image,label\n2,cat\n7,dog",
        b"image,label\r2,cat\r7,dog\r",
        b"\n image , label \n\n 2 , cat \n,\n7,dog\n\n",
        b'"image","label"\n"2","cat"\n"7","dog"\n',
        b"label,note,image\ncat,,2\ndog,seen on Monday,7\n",
    ],
    ids=["CRLF", "byte order mark", "no last newline", "CR", "blanks", "quotes", "other columns and order"],
)
def test_ways_to_write_it(content, data, tmp_path):
    table = write(tmp_path, content)
    bound = TableEdits(table).bind(data.test_dataset, ["cat", "dog"])
    assert [some.tolist() for some in bound(LABELS, PREDICTIONS, 4)] == [[2, 7], [0, 1]]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_accents_and_commas(form, data, tmp_path):
    chair = normalize(form, "chaise à bascule")
    table = write(tmp_path, f'image,label\n{chair}/0.png,cat\n0,{chair}\n"dog, wild/1.png","dog, wild"\n')
    assert pairs(table, data) == [(4, 1), (0, 2), (7, 3)]


def test_positions_where_images_have_no_files(tmp_path):
    digits = DigitsDataModule()
    digits.setup("test")
    table = write(tmp_path, "image,label\n000012,3\n7,4\n")
    bound = TableEdits(table).bind(digits.test_dataset, digits.classes)
    assert bound(torch.zeros(359), torch.zeros(359), 10).indices.tolist() == [12, 7]


def test_files_of_a_part(data, tmp_path):
    part = Subset(data.test_dataset, [6, 2])
    file = data.test_dataset.images.paths[2]
    bound = TableEdits(write(tmp_path, f'image,label\n"{file}",7\n0,cat\n')).bind(part, CLASSES)
    assert bound(LABELS[:2], PREDICTIONS[:2], 4).indices.tolist() == [1, 0]


@pytest.mark.parametrize(
    "settings",
    [
        {"cache": True},
        {"mean": [0.5], "std": [0.25]},
        {"mean": [0.5], "std": [0.25], "cache": True},
        {"cue": PlantedPatch("cat", size=2, margin=0), "cache": True},
        {"test_limit": 6, "cache": True},
    ],
    ids=["in memory", "grey", "grey and in memory", "with a patch", "in part"],
)
def test_images_by_their_files_whatever_is_made_of_these(settings, data, tmp_path):
    stored = ImageFolderDataModule(str(data.root), num_workers=0, **settings)
    stored.setup("test")
    places = [NAMES.index(normalize("NFC", name)) for name in image_names(stored.test_dataset)]
    files = [data.test_dataset.images.paths[place] for place in places]
    table = write(tmp_path, "image,label\n" + "".join(f'"{file}",7\n' for file in reversed(files)))
    bound = TableEdits(table).bind(stored.test_dataset, CLASSES)
    assert bound(LABELS, PREDICTIONS, 4).indices.tolist() == list(reversed(range(len(files))))


def test_the_same_edit_twice_is_made_once(data, tmp_path):
    table = write(tmp_path, "image,label\n3,7\ncat/1.png,7\n4,cat\n")
    with pytest.warns(UserWarning, match="asks for 1 edits twice, of the same image with the same label"):
        assert pairs(table, data) == [(3, 0), (4, 1)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no edits"),
        ("\n\n", "has no edits"),
        ("image,label\n", "has no edits: give a line for each"),
        ("image\n1\n", "has no column 'label' in its first line, which is 'image'"),
        ("image;label\n1;cat\n", "has no column 'image' in its first line, which is 'image;label'.*with commas"),
        ("1,cat\n", "has no column 'image' in its first line, which is '1,cat'"),
        ("image,label,image\n1,cat,2\n", "has 2 columns 'image'"),
        ("image,label\n1\n", r"line 2 of '.*' has 1 cells where its first line has 2"),
        (
            "image,label\n1,dog, wild\n",
            r"line 2 of '.*' has 3 cells where .*: put a name with a comma in it into quotes",
        ),
        ("image,label\n1,cat\n,cat\n", r"line 3 of '.*' has no image"),
        ("image,label\n1,\n", r"line 2 of '.*' has no label"),
        ('image,label\n1,"cat\n', r"line 2 of '.*' cannot be read as CSV"),
        (
            "image,label\n8,cat\n",
            r"line 2 of '.*' has the image '8', which is none of the 8 images: .*0 … 7, .*'7/0.png'",
        ),
        ("image,label\n-1,cat\n", r"has the image '-1'"),
        ("image,label\n1.0,cat\n", r"has the image '1\.0'"),
        ("image,label\n1,7\ncat/9.png,cat\n", r"line 3 of '.*' has the image 'cat/9\.png'"),
        (
            "image,label\n1,catt\n",
            r"line 2 of '.*' has the label 'catt', which is none of the 4 classes.*near names are cat",
        ),
        ("image,label\n1,4\n", r"has the label '4', which is none of the 4 classes of the data, and no number"),
        ("image,label\n1,-1\n", "has the label '-1'"),
        (
            "image,label\n3,cat\n0,7\ncat/1.png,7\n",
            r"line 4 of '.*' asks for '7' of the image 'cat/1\.png', of which line 2 asks for 'cat': an image can",
        ),
        (b"image,label\n1,\xff\n", "is no text in UTF-8"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(content, message, data, tmp_path):
    with pytest.raises(UserError, match=message) as error:
        pairs(write(tmp_path, content), data)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("place", ["nowhere.csv", "", "folder"])
def test_a_table_that_is_not_there(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    with pytest.raises(UserError, match=r"there is no table of edits at|is a folder, but must be a file"):
        TableEdits(place)


def test_it_knows_no_images_by_itself(data, tmp_path):
    table = TableEdits(write(tmp_path, "image,label\n1,cat\n"))
    with pytest.raises(UserError, match="is not bound to images yet"):
        table(LABELS, PREDICTIONS, 4)
    with pytest.raises(UserError, match="needs a data module that knows its classes"):
        table.bind(data.test_dataset, None)
    bound = table.bind(data.test_dataset, CLASSES)
    with pytest.raises(UserError, match="num_edits is 0, but must be at least 1"):
        bound(LABELS, PREDICTIONS, 4, 0)
    with pytest.raises(UserError, match="is of other images"):
        bound(LABELS[:1], PREDICTIONS[:1], 4)


def test_other_streams_are_bound_to_anything(data, tmp_path):
    assert isinstance(NaturalMistakeEdits().bind(data.test_dataset, None), NaturalMistakeEdits)
    held_out = HeldOutEdits(TableEdits(write(tmp_path, "image,label\n1,cat\n6,7\n"))).bind(data.test_dataset, CLASSES)
    assert sorted(held_out(LABELS, PREDICTIONS, 4).indices.tolist()) == [0, 2, 3, 4, 5, 7]


cells = st.sampled_from(["image", "label", "0", "cat", "7/0.png", '"', ",", "\n", "\r\n", "é", "e\u0301", "﻿", " "])


@given(content=st.lists(cells | st.text(max_size=4), max_size=20).map("".join), begun=st.booleans())
def test_whatever_it_is_it_is_read_or_refused(data, tmp_path_factory, content, begun):
    folder = tmp_path_factory.getbasetemp()
    content = f"image,label\n{content}" if begun else content
    table = write(folder, content.encode("utf-8", "surrogatepass"))
    with warnings.catch_warnings(), contextlib.suppress(UserError):
        warnings.simplefilter("ignore")
        found = pairs(table, data)
        assert found
        assert len({index for index, _ in found}) == len(found)


rows = st.dictionaries(st.sampled_from([*NAMES, *range(8)]), st.sampled_from(CLASSES), min_size=1)


@given(rows=rows)
def test_what_is_written_comes_back(data, tmp_path_factory, rows):
    text = io.StringIO(newline="")
    csv.writer(text).writerows([["image", "label"], *rows.items()])
    expected: dict[int, set[int]] = {}
    for image, label in rows.items():
        expected.setdefault(image if isinstance(image, int) else NAMES.index(image), set()).add(CLASSES.index(label))
    table = write(tmp_path_factory.getbasetemp(), text.getvalue())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if any(len(labels) > 1 for labels in expected.values()):
            with pytest.raises(UserError, match="an image can get one label"):
                pairs(table, data)
            return
        assert pairs(table, data) == [(index, *labels) for index, labels in expected.items()]
