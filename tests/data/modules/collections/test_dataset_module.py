"""Any data set of torch: items as people have them become the pixels and labels that they stand for."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Subset
from torchvision.datasets import FakeData, ImageFolder
from torchvision.transforms import v2

from editable.cli import main
from editable.data import DatasetDataModule
from editable.errors import UserError
from tests.mistakes import error_line
from tests.warned import whatever_is_warned

PIXELS = np.random.RandomState(0).randint(0, 256, (4, 6, 5, 3), dtype=np.uint8)
LABELS = [2, 0, 1, 2]
HERE = "tests.data.modules.collections.test_dataset_module"


class Items(Dataset):
    """Four images, as some kind of item, and their labels as some attribute."""

    def __init__(
        self, split: str = "train", kind: str = "PIL", attribute: str | None = None, labels: Any = None
    ) -> None:
        self.split, self.kind, self.stored = split, kind, LABELS if labels is None else labels
        if split not in ("train", "test"):
            raise RuntimeError(f"there is no split {split}")
        if attribute is not None:
            setattr(self, attribute, self.stored)

    def __len__(self) -> int:
        return len(self.stored)

    def __getitem__(self, index: int) -> Any:
        image = KINDS[self.kind](PIXELS[index])
        if self.kind == "mapping":
            return {"image": image, "label": self.stored[index], "more": 1}
        return image, self.stored[index], "more"


class Odd(Dataset):
    """Items that are no image with a label."""

    def __init__(self, item: str) -> None:
        self.item = item

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Any:
        return {
            "image alone": torch.zeros(3, 4, 4),
            "normalised": (torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(0)), 0),
            "integers": (torch.zeros(3, 4, 4, dtype=torch.int64), 0),
            "two channels": (torch.zeros(2, 4, 4), 0),
            "a list": ([[0]], 0),
            "no label": (torch.zeros(3, 4, 4), None),
            "several labels": (torch.zeros(3, 4, 4), torch.zeros(2)),
            "negative": (torch.zeros(3, 4, 4), -1),
        }[self.item]


KINDS: dict[str, Callable[[np.ndarray], Any]] = {
    "PIL": Image.fromarray,
    "mapping": Image.fromarray,
    "array": np.array,
    "tensor": lambda pixels: torch.from_numpy(pixels).permute(2, 0, 1),
    "floats": lambda pixels: torch.from_numpy(pixels).permute(2, 0, 1) / 255,
    "image of torchvision": lambda pixels: v2.functional.to_image(pixels),
}


def module(**settings: Any) -> DatasetDataModule:
    return DatasetDataModule(**{"batch_size": 2, "num_workers": 0, "mean": (0, 0, 0), "std": (1, 1, 1), **settings})


def ready(stage: str = "test", **settings: Any) -> DatasetDataModule:
    data = module(**settings)
    data.setup(stage)
    return data


def stored(images: Any) -> Tensor:
    return torch.stack([(images[index][0] * 255).round().to(torch.uint8) for index in range(len(images))])


def read_all(stage: str, **settings: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        list(ready(stage, **settings).test_dataloader())


def refusal(stage: str = "test", **settings: Any) -> str:
    with pytest.raises(UserError) as raised:
        read_all(stage, **settings)
    return str(raised.value)


@pytest.mark.filterwarnings("ignore:.*each is read once")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cache", [False, True])
def test_pixels_and_labels_are_those_of_the_items(kind: str, cache: bool) -> None:
    data = ready(test=lambda: Items("test", kind), cache=cache)
    assert torch.equal(stored(data.test_dataset), torch.from_numpy(PIXELS).permute(0, 3, 1, 2))
    assert [data.test_dataset[index][1] for index in range(4)] == LABELS
    assert data.classes == ["0", "1", "2"]


@pytest.mark.parametrize("attribute", ["targets", "labels", "_labels", None])
@pytest.mark.parametrize("as_", [list, torch.tensor, np.array])
def test_labels_are_found_without_reading_images(attribute: str | None, as_: Callable[[list], Any]) -> None:
    with whatever_is_warned() as said:
        data = ready(test=lambda: Items("test", "PIL", attribute, as_(LABELS)))
    assert data.test_dataset.images.labels.tolist() == LABELS
    assert any("each is read once to see" in str(some.message) for some in said) == (attribute is None)


def test_one_class_with_an_argument_for_the_split() -> None:
    made: list[str] = []

    def make(split: str, attribute: str) -> Items:
        made.append(split)
        return Items(split, "PIL", attribute)

    data = module(dataset=lambda split="train": make(split, "targets"), val_split=None)
    data.setup("test")
    assert made == ["test", "train"], "classes are those of the training images"
    assert (data.test_dataset.images.dataset.split, len(data.test_dataset)) == ("test", 4)
    assert module(dataset=lambda train: Items("train" if train else "test"), split_argument="train").makers


def test_true_and_false_say_the_split() -> None:
    data = module(
        dataset=lambda train: Items("train" if train else "test", "PIL", "targets"),
        split_argument="train",
        train_split=True,
        test_split=False,
    )
    data.setup("test")
    assert data.test_dataset.images.dataset.split == "test"


def test_a_subset_and_names(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(3):
            Image.fromarray(PIXELS[number]).save(tmp_path / name / f"{number}.png")
    data = ready(test=lambda: Subset(ImageFolder(tmp_path), [4, 0]), classes=["dog", "cat"])
    assert data.test_dataset.images.labels.tolist() == [1, 0], "a number is a label, whatever the data set calls it"
    assert ready(test=lambda: ImageFolder(tmp_path)).classes == ["cat", "dog"]


def test_labels_by_name() -> None:
    names = ["owl", "cat", "dog", "owl"]
    data = ready(test=lambda: Items("test", "PIL", "targets", names), classes=["cat", "dog", "owl"])
    assert data.test_dataset.images.labels.tolist() == [2, 0, 1, 2]
    assert ready(test=lambda: Items("test", "PIL", "targets", names)).classes == ["cat", "dog", "owl"]


def test_training_and_limits() -> None:
    make = lambda: FakeData(size=12, image_size=(3, 6, 6), num_classes=2)  # noqa: E731
    with pytest.warns(UserWarning, match="each is read once"):
        data = ready("fit", train=make, train_limit=4, test_limit=1, validation_fraction=0.25)
    assert len(data.train_dataset) == 4
    data.setup("test")
    assert len(data.test_dataset) == 1


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, "a data set is given either as dataset, for all splits, or as train, val and test"),
    "both": ({"dataset": Items, "test": Items}, "a data set is given either as dataset"),
    "one split twice": (
        {"dataset": Items, "test_split": "train"},
        "train_split, val_split and test_split must differ, got train, None, train",
    ),
    "cannot be made": ({"dataset": Items, "test_split": "tset"}, "cannot be made (there is no split tset)"),
    "no such argument": ({"dataset": Items, "split_argument": "part"}, "unexpected keyword argument 'part'"),
    "empty": ({"test": lambda: Items("test", labels=[])}, "Items (test) has no images"),
    "label of no class": ({"test": lambda: Items(), "classes": ["a", "b"]}, "has the label 2, but there are 2 classes"),
    "name of no class": (
        {"test": lambda: Items("test", "PIL", "targets", ["a"] * 4), "classes": ["b"]},
        "item 0 of Items (test) has the label 'a', which is none of the 1 classes",
    ),
    "other targets": ({"test": lambda: _relabelled()}, "but among the labels of the data set it is 2"),
    "no length": ({"test": lambda: Dataset()}, "has no length"),
    "image alone": ({"test": lambda: Odd("image alone")}, "is a Tensor, but must be an image and its label"),
    "normalised": ({"test": lambda: Odd("normalised")}, "but floats must be from 0 to 1: leave normalisation to"),
    "integers": ({"test": lambda: Odd("integers")}, "are torch.int64, but must be uint8 or floats from 0 to 1"),
    "two channels": ({"test": lambda: Odd("two channels")}, "is [2, 4, 4], but must have one channel or three"),
    "a list": ({"test": lambda: Odd("a list")}, "is a list, but must be of Pillow, an array or a tensor"),
    "no label": ({"test": lambda: Odd("no label")}, "has the label None, but labels are numbers or names"),
    "several labels": ({"test": lambda: Odd("several labels")}, "but labels are numbers or names of classes"),
    "negative": ({"test": lambda: Odd("negative"), "classes": ["a"]}, "has the label -1, but there are 1 classes"),
}


def _relabelled() -> Items:
    items = Items("test", "PIL", "targets")
    items.stored = [0, 0, 0, 0]
    return items


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_end_in_one_sentence(mistake: str) -> None:
    settings, sentence = MISTAKES[mistake]
    assert sentence in refusal(**settings)


def test_no_training_images() -> None:
    assert "there is no data set of training images" in refusal("fit", test=lambda: Items("test", "PIL", "targets"))


DATA = [
    "--data=DatasetDataModule",
    "--data.num_workers=0",
    "--data.batch_size=4",
    "--model=ClassificationTask",
    "--model.network=editable.models.cifar_resnet",
    "--model.network.num_classes=3",
    "--model.network.width=2",
    "--evaluation.num_edits=0",
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
]


@pytest.mark.parametrize(
    "options",
    [
        [f"--data.test={HERE}.Items", "--data.test.split=test", "--data.test.attribute=targets"],
        [f"--data.dataset={HERE}.Items", "--data.dataset.attribute=targets"],
    ],
)
def test_by_the_command_line(options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    main(["test", *DATA, *options])
    (config,) = Path("runs").rglob("config.yaml")
    main(["test", f"--config={config}"])
    assert len(list(Path("runs").rglob("metrics.json"))) == 2


def test_a_misspelt_argument(capsys: pytest.CaptureFixture) -> None:
    line = error_line(["test", *DATA, f"--data.test={HERE}.Items", "--data.test.splits=test"], capsys)
    assert "splits" in line
