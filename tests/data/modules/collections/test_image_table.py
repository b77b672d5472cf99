"""Images of a table: order, labels and splits as it says, and one sentence for what it cannot mean."""

import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
import torch
from PIL import Image
from pyarrow import parquet

from editable.data import ImageTableDataModule
from editable.errors import UserError
from tests.mistakes import error_line

ROWS = [
    ("b/1.png", "dog", "train"),
    ("a/1.png", "cat", "test"),
    ("b/2.png", "dog", "test"),
    ("a/2.png", "cat", "train"),
    ("a/3.png", "cat", "val"),
    ("a/10.png", "cat", "train"),
    ("b/3.png", "dog", "train"),
]
HEAD = ("path", "label", "split")
pytestmark = pytest.mark.filterwarnings("ignore:1 of 2 classes have no val image")  # ROWS has no dog to validate on


@pytest.fixture(autouse=True)
def pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """Images in the folder `images` of the working folder, by name."""
    monkeypatch.chdir(tmp_path)
    random, made = np.random.RandomState(0), {}
    for name, *_ in ROWS:
        path = Path("images", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        made[name] = random.randint(0, 256, (8, 12, 3), dtype=np.uint8)
        Image.fromarray(made[name]).save(path)
    return made


def write(rows: list[tuple], head: tuple[str, ...] = HEAD, name: str = "images/table.csv") -> str:
    with open(name, "w", newline="") as file:
        csv.writer(file).writerows([head, *rows])
    return name


def module(table: str, **settings: Any) -> ImageTableDataModule:
    usual = {"batch_size": 2, "num_workers": 0, "mean": (0, 0, 0), "std": (1, 1, 1)}
    return ImageTableDataModule(table, **{**usual, **settings})


def names_of(images: Any) -> list[str]:
    return [images.names[index] for index in range(len(images))]


def refusal(table: str, stage: str = "test", **settings: Any) -> str:
    with pytest.raises(UserError) as raised:
        module(table, **settings).setup(stage)
    return str(raised.value)


@pytest.mark.parametrize("cache", [False, True])
def test_images_labels_and_splits_are_those_of_the_table(pixels: dict[str, np.ndarray], cache: bool) -> None:
    data = module(write(ROWS), cache=cache)
    data.setup("fit")
    data.setup("test")
    assert data.classes == ["cat", "dog"]
    for split in ("train", "val", "test"):
        images = data._split(split)
        rows = [row for row in ROWS if row[2] == split]
        assert list(images.names) == [name for name, *_ in rows]
        assert [data.classes[label] for label in images.labels] == [label for _, label, _ in rows]
    stored = [pixels["a/1.png"], pixels["b/2.png"]]
    batch, labels = next(iter(data.test_dataloader()))
    assert torch.equal((batch * 255).round().to(torch.uint8), torch.from_numpy(np.stack(stored)).permute(0, 3, 1, 2))
    assert labels.tolist() == [0, 1]


def test_other_columns_splits_and_root() -> None:
    rows = [(label, f"{'x' * (split == 'train')}{split}", 5, name) for name, label, split in ROWS]
    Path("tables").mkdir()
    table = write(rows, ("what", "part", "else", "file"), "tables/my.csv")
    names = {"train_split": "xtrain", "path_column": "file", "label_column": "what", "split_column": "part"}
    data = module(table, root="images", **names)
    data.setup("fit")
    assert len(data._split("train")) == 4


def test_paths_may_be_absolute(tmp_path: Path) -> None:
    Path("tables").mkdir()
    rows = [(str(tmp_path / "images" / name), label, split) for name, label, split in ROWS]
    data = module(write(rows, name="tables/my.csv"))
    data.setup("test")
    assert data.test_dataset[0][0].shape == (3, 8, 12)


def test_without_splits_all_are_test_images() -> None:
    data = module(write([row[:2] for row in ROWS], HEAD[:2]), split_column=None)
    data.setup("test")
    assert len(data.test_dataset) == 7
    with pytest.raises(UserError, match="has no row of the split 'train', but of test"):
        data.setup("fit")


def test_validation_is_held_out_and_tested_on_where_there_is_no_other() -> None:
    data = module(write([(name, label, "train") for name, label, _ in ROWS]), validation_fraction=0.3)
    data.setup("fit")
    data.setup("test")
    assert [len(data.train_dataset), len(data.val_dataset), len(data.test_dataset)] == [5, 2, 2]
    assert data.tests_on_validation


def test_limits() -> None:
    data = module(write(ROWS), train_limit=2, test_limit=1)
    data.setup("fit")
    data.setup("test")
    assert (len(data.train_dataset), len(data.test_dataset)) == (2, 1)
    with pytest.raises(UserError, match="test_limit is 3, but there are only 2 test images"):
        module(write(ROWS), test_limit=3).setup("test")


def test_the_deployed_networks_classes() -> None:
    data = module(write(ROWS), classes=["owl", "dog", "cat"])
    data.setup("test")
    assert data.test_dataset.images.labels.tolist() == [2, 1]
    assert data.num_classes == 3
    by_number = module(write([(name, {"cat": 2, "dog": 1}[label], split) for name, label, split in ROWS]))
    by_number.listed_classes = ["owl", "dog", "cat"]
    by_number.setup("test")
    assert by_number.test_dataset.images.labels.tolist() == [2, 1]


def test_numbers_are_labels_themselves() -> None:
    rows = [(name, 3 if label == "cat" else 11, split) for name, label, split in ROWS]
    data = module(write(rows))
    with pytest.warns(UserWarning, match=r"10 of 12 classes have no test image"):
        data.setup("test")
    assert data.classes == [str(label) for label in range(12)]
    assert data.test_dataset.images.labels.tolist() == [3, 11]


def test_grey_images_for_a_network_of_one_channel(pixels: dict[str, np.ndarray]) -> None:
    data = module(write(ROWS), mean=(0,), std=(1,))
    data.setup("test")
    expected = np.array(Image.fromarray(pixels["a/1.png"]).convert("L"))
    assert torch.equal((data.test_dataset[0][0] * 255).round().to(torch.uint8), torch.from_numpy(expected)[None])


def test_parquet_is_read_as_csv_is() -> None:
    columns = dict(zip(HEAD, zip(*ROWS, strict=True), strict=True))
    parquet.write_table(pyarrow.table({name: list(cells) for name, cells in columns.items()}), "images/table.parquet")
    by_parquet, by_csv = module("images/table.parquet"), module(write(ROWS))
    for data in (by_parquet, by_csv):
        data.setup("test")
    assert by_parquet.classes == by_csv.classes
    assert torch.equal(by_parquet.test_dataset[1][0], by_csv.test_dataset[1][0])


def test_parquet_of_numbers_and_categories() -> None:
    paths, labels = ["a/1.png", "b/1.png"], pyarrow.array([1.0, 0.0])
    table = pyarrow.table({"path": paths, "label": labels, "split": pyarrow.array(["test"] * 2).dictionary_encode()})
    parquet.write_table(table, "images/table.parquet")
    data = module("images/table.parquet")
    data.setup("test")
    assert data.test_dataset.images.labels.tolist() == [1, 0]


MISTAKES = {
    "no table": (None, {}, "there is no table of images at 'images/table.csv'"),
    "empty": ([], {}, "the table 'images/table.csv' has no rows"),
    "column": (ROWS, {"label_column": "class"}, "has no column 'class' in its first line, which is 'path,label,split'"),
    "missing file": ([("a/9.png", "cat", "test")], {}, "line 2 of 'images/table.csv' has the image 'a/9.png', which"),
    "unknown label": (ROWS, {"classes": ["cat", "dig"]}, "line 4 of 'images/table.csv' has the label 'dog', which is"),
    "number too large": (
        [("a/1.png", "2", "test")],
        {"classes": ["a", "b"]},
        "has the label '2', which is none of the 2",
    ),
    "twice": (
        [ROWS[1], ROWS[2], ROWS[1]],
        {},
        "line 4 of 'images/table.csv' has the image 'a/1.png', which line 2 has",
    ),
    "other spelling": ([ROWS[1], ("b/../a/1.png", "cat", "train")], {}, "which line 2 has already"),
    "unknown split": ([("a/1.png", "cat", "tets")], {}, "has the split 'tets', but splits are train, val, test"),
    "no label": ([("a/1.png", "", "test")], {}, "line 2 of 'images/table.csv' has no label"),
    "no path": ([("", "cat", "test")], {}, "line 2 of 'images/table.csv' has no path"),
    "cells": ([("a/1.png", "cat")], {}, "line 2 of 'images/table.csv' has 2 cells where its first line has 3"),
    "huge label": ([("a/1.png", 10**9, "test")], {}, "has the label 1000000000, but labels are below"),
    "same split names": (ROWS, {"val_split": "test"}, "train_split, val_split and test_split must differ"),
    "no classes": (ROWS, {"classes": "none.txt"}, "there is no file of classes at 'none.txt'"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_end_in_one_sentence(mistake: str) -> None:
    rows, settings, sentence = MISTAKES[mistake]
    assert sentence in refusal("images/table.csv" if rows is None else write(rows), **settings)


def test_an_empty_split() -> None:
    table = write([row for row in ROWS if row[2] != "train"])
    assert "has no row of the split 'train', but of test, val" in refusal(table, "fit")


def test_a_broken_image() -> None:
    Path("images/a/1.png").write_bytes(b"no image")
    assert "images/a/1.png cannot be read" in refusal(write(ROWS))


def test_images_of_several_sizes() -> None:
    Image.new("RGB", (9, 9)).save("images/b/2.png")
    data = module(write(ROWS))
    data.setup("test")
    with pytest.raises(UserError, match=r"9×9 pixels .* first image is 8×12: set image_size"):
        list(data.test_dataloader())


def test_parquet_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("broken.parquet").write_bytes(b"PAR1 nothing PAR1")
    assert "'broken.parquet' cannot be read as Parquet" in refusal("broken.parquet")
    parquet.write_table(pyarrow.table({"path": ["a"], "label": ["b"]}), "few.parquet")
    assert "'few.parquet' has no column 'split': it has path, label" in refusal("few.parquet")
    assert "there is no table of images at 'none.parquet'" in refusal("none.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert "is read by the package pyarrow: pip install -e '.[hub]'" in refusal("few.parquet")


def test_by_the_command_line(capsys: pytest.CaptureFixture) -> None:
    table = write([*ROWS, ("a/404.png", "cat", "test")])
    network = ["--model.network=editable.models.cifar_resnet", "--model.network.num_classes=2"]
    data = ["--data=ImageTableDataModule", f"--data.table={table}", "--data.classes=[dog,cat]", "--data.num_workers=0"]
    line = error_line(["test", "--model=ClassificationTask", *network, *data], capsys)
    assert "line 9 of 'images/table.csv' has the image 'a/404.png', which is not in 'images'" in line
