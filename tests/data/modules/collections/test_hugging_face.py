"""Data sets of Hugging Face from local files: the pixels are those of the one reader, the labels those of the names."""

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from editable.data import HuggingFaceDataModule
from editable.data.images.reader import read_image
from editable.errors import UserError
from tests.mistakes import error_line

LABELS = [1, 0, 1]
NAMES = ["cat", "dog"]


@pytest.fixture(autouse=True)
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Three image files, the second of which is turned by its EXIF orientation and the third transparent."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    random = np.random.RandomState(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(random.randint(0, 256, (6, 9, 3), dtype=np.uint8)).save("0.png")
    Image.fromarray(random.randint(0, 256, (9, 6, 3), dtype=np.uint8)).save("1.png", exif=exif)
    Image.fromarray(random.randint(0, 256, (6, 9, 4), dtype=np.uint8)).save("2.png")
    return ["0.png", "1.png", "2.png"]


def made(paths: list[str], labels: Any = LABELS, names: list[str] | None = NAMES) -> Any:
    label = datasets.ClassLabel(names=names) if names else None
    part = datasets.Dataset.from_dict({"image": [str(Path(path).absolute()) for path in paths], "label": labels})
    part = part.cast_column("image", datasets.Image())
    return part.cast_column("label", label) if label else part


def module(source: str, **settings: Any) -> HuggingFaceDataModule:
    usual = {"batch_size": 2, "num_workers": 0, "mean": (0, 0, 0), "std": (1, 1, 1)}
    return HuggingFaceDataModule(source, **{**usual, **settings})


def ready(source: str, **settings: Any) -> HuggingFaceDataModule:
    data = module(source, **settings)
    data.setup("test")
    return data


def read_all(source: str, **settings: Any) -> None:
    list(ready(source, **settings).test_dataloader())


def assert_read(data: HuggingFaceDataModule, paths: list[str], labels: list[int] = LABELS) -> None:
    for index, path in enumerate(paths):
        image, label = data.test_dataset[index]
        assert torch.equal((image * 255).round().to(torch.uint8), read_image(path))
        assert label == labels[index]


def test_what_save_to_disk_has_written(paths: list[str]) -> None:
    datasets.DatasetDict({"test": made(paths), "train": made(paths[:2], LABELS[:2])}).save_to_disk("saved")
    data = ready("saved", validation_fraction=0)
    assert data.classes == NAMES
    assert_read(data, paths)
    data.setup("fit")
    assert len(data.unaugmented_training_images()) == 2


def test_one_part_alone_is_of_test_images(paths: list[str]) -> None:
    made(paths).save_to_disk("saved")
    assert_read(ready("saved", cache=True), paths)


def test_parquet_files_with_the_images_in_them(paths: list[str]) -> None:
    Path("files").mkdir()
    contents = [{"bytes": Path(path).read_bytes(), "path": None} for path in paths]
    part = datasets.Dataset.from_dict({"image": contents, "label": LABELS}).cast_column("image", datasets.Image())
    part.cast_column("label", datasets.ClassLabel(names=NAMES)).to_parquet("files/test-00000-of-00001.parquet")
    assert_read(ready("files"), paths)


def test_a_folder_of_images(paths: list[str]) -> None:
    for path, label in zip(paths, LABELS, strict=True):
        folder = Path("folder/test", NAMES[label])
        folder.mkdir(parents=True, exist_ok=True)
        Path(path).rename(folder / path)
    data = ready("folder")
    assert data.classes == NAMES
    assert sorted(data.test_dataset.images.labels.tolist()) == [0, 1, 1]


def test_other_columns_and_splits(paths: list[str]) -> None:
    part = made(paths).rename_columns({"image": "img", "label": "fine"})
    datasets.DatasetDict({"held": part}).save_to_disk("saved")
    assert_read(ready("saved", image_column="img", label_column="fine", test_split="held"), paths)


def test_the_deployed_networks_classes(paths: list[str]) -> None:
    made(paths).save_to_disk("saved")
    assert_read(ready("saved", classes=["dog", "owl", "cat"]), paths, [0, 2, 0])


@pytest.mark.parametrize(("labels", "expected"), [([2, 0, 1], [2, 0, 1]), (["b", "a", "b"], [1, 0, 1])])
def test_labels_without_names(paths: list[str], labels: list, expected: list[int]) -> None:
    made(paths, labels, None).save_to_disk("saved")
    assert_read(ready("saved"), paths, expected)


def test_limits(paths: list[str]) -> None:
    made(paths).save_to_disk("saved")
    assert len(ready("saved", test_limit=2).test_dataset) == 2


def test_nothing_is_asked_of_the_hub_unless_it_is_named(paths: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    def load(*given: Any) -> Any:
        asked.append(given)
        return datasets.DatasetDict({"test": made(paths)})

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert_read(ready("hf-hub:owner/pets", name="small"), paths)
    assert asked == [("owner/pets", "small")]
    with pytest.raises(UserError, match="there is no folder 'owner/pets': give one, or hf-hub:owner/name"):
        ready("owner/pets")


def mistaken(paths: list[str], kind: str) -> dict[str, Any]:
    """Write a data set that a mistake is in, or return the settings that have it."""
    part = made(paths)
    if kind == "no image":
        part = datasets.Dataset.from_dict({"image": [None] * 3, "label": LABELS}).cast_column("image", datasets.Image())
    elif kind == "unlabelled":
        part = made(paths, [1, -1, 0])
    elif kind == "no label":
        part = made(paths, [1, None, 0])
    elif kind == "no images":
        part = datasets.Dataset.from_dict({"image": [1, 2, 3], "label": LABELS})
    part.save_to_disk("saved")
    if kind == "broken":
        next(Path("saved").glob("*.arrow")).write_bytes(b"nothing")
    settings: dict[str, dict[str, Any]] = {
        "column": {"label_column": "labels"},
        "class": {"classes": ["cat", "dig"]},
        "same split names": {"val_split": "test"},
    }
    return settings.get(kind, {})


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("column", "has no column 'labels': it has image, label"),
        ("class", "row 0 of the data set 'saved' (test) has the label 'dog', which is none of the 2 classes"),
        ("same split names", "train_split, val_split and test_split must differ"),
        ("no image", "there is no image in row 0 of"),
        ("unlabelled", "row 1 of the data set 'saved' (test) has the label -1, which is no class"),
        ("no label", "row 1 of the data set 'saved' (test) has the label None, which is no class"),
        ("no images", "the column 'image' of the data set 'saved' has no images"),
        ("broken", "the data set 'saved' cannot be read"),
        ("sizes", "first image is 6×9"),
    ],
)
def test_mistakes_end_in_one_sentence(paths: list[str], kind: str, sentence: str) -> None:
    if kind == "sizes":
        Image.new("RGB", (5, 5)).save("1.png")
    settings = mistaken(paths, kind)
    with pytest.raises(UserError) as raised:
        read_all("saved", **settings)
    assert sentence in str(raised.value)


def test_no_training_images(paths: list[str]) -> None:
    made(paths).save_to_disk("saved")
    with pytest.raises(UserError, match="has no images in a split 'train', but the splits test"):
        module("saved").setup("fit")


def test_by_the_command_line(capsys: pytest.CaptureFixture) -> None:
    network = ["--model.network=editable.models.cifar_resnet", "--model.network.num_classes=2"]
    data = ["--data=HuggingFaceDataModule", "--data.source=nowhere", "--data.num_workers=0"]
    assert "there is no folder 'nowhere'" in error_line(["test", "--model=ClassificationTask", *network, *data], capsys)
