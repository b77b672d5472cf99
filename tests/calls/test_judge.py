"""Labelled images as people have them."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from editable.calls.judge import Judge, class_names, halves, transform_of
from editable.errors import UserError

IMAGES, LABELS = torch.arange(7.0).view(7, 1, 1, 1).expand(7, 1, 2, 2), torch.arange(7) % 3


class Dicts(Dataset[dict[str, Any]]):
    """As Hugging Face's data sets."""

    classes = ("a", "b", "c")

    def __len__(self) -> int:
        return 7

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"pixel_values": IMAGES[index], "labels": int(LABELS[index])}

    def transform(self, picture: Any) -> Any:
        return picture


@pytest.mark.parametrize(
    "given",
    [
        (IMAGES, LABELS),
        TensorDataset(IMAGES, LABELS),
        Dicts(),
        (IMAGES.numpy(), LABELS.numpy()),
        (IMAGES.double(), LABELS.tolist()),
        DataLoader(TensorDataset(IMAGES, LABELS), batch_size=3, shuffle=True),
        DataLoader(Dicts(), batch_size=2, num_workers=0),
    ],
)
def test_all_are_read_in_order(given: Any):
    images, labels = (torch.cat(some) for some in zip(*Judge(given).batches(), strict=True))
    assert torch.equal(images, IMAGES)
    assert torch.equal(labels, LABELS)
    images, labels = (torch.cat(some) for some in zip(*Judge(given).batches([5, 1]), strict=True))
    assert images[:, 0, 0, 0].tolist() == [5, 1]
    assert labels.tolist() == [2, 1]


def test_a_part_that_a_loader_draws_is_that_part():
    some = DataLoader(TensorDataset(IMAGES, LABELS), batch_size=3, sampler=SubsetRandomSampler([6, 1, 4]))
    judge = Judge(some)
    assert len(judge) == 3
    assert torch.cat([images for images, _ in judge.batches()])[:, 0, 0, 0].tolist() == [1, 4, 6]
    batches = BatchSampler(SubsetRandomSampler([2, 0]), 2, drop_last=False)
    judge = Judge(DataLoader(TensorDataset(IMAGES, LABELS), batch_sampler=batches))
    assert torch.cat([labels for _, labels in judge.batches()]).tolist() == [0, 2]


@pytest.mark.parametrize(
    "loader",
    [
        {"sampler": WeightedRandomSampler([1.0] * 7, 7)},
        {"sampler": RandomSampler(LABELS, replacement=True)},
        {"sampler": RandomSampler(LABELS, num_samples=3)},
        {"batch_sampler": [[0, 1], [2]]},
    ],
)
def test_a_loader_that_chooses_by_itself_is_refused(loader: dict[str, Any]):
    with pytest.raises(
        UserError, match=r"judge is a loader whose .* decides which of its images it gives: give a Subset"
    ):
        Judge(DataLoader(TensorDataset(IMAGES, LABELS), **loader))


def test_labels_are_the_networks():
    judge = Judge((IMAGES, LABELS + torch.tensor([0, 0, 0, 0, 0, 5, 0])))
    assert len(list(judge.batches())) == 1
    judge.fit(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)))
    with pytest.raises(UserError, match="judge has the label 7, which is none of the network's classes, 0 … 2"):
        list(judge.batches())
    assert "the label 7" in str(judge.fault)


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Endless(), "judge must be a DataLoader, a data set with a length"),
        (5, "got a int"),
        (TensorDataset(IMAGES[:0], LABELS[:0]), "judge has no images"),
        ((IMAGES, LABELS[:3]), "judge has 7 images and 3 labels"),
        ((IMAGES, 3), "judge has 7 images and 1 labels"),
        ((IMAGES, ["cat"] * 7), "one whole number for each as its label, got list"),
    ],
)
def test_what_cannot_judge(given: Any, message: str):
    with pytest.raises(UserError, match=message):
        Judge(given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (TensorDataset(IMAGES), "got list"),
        (TensorDataset(IMAGES.to(torch.uint8), LABELS), r"got torch.uint8 \[7, 1, 2, 2\] and torch.int64 \[7\]"),
        (TensorDataset(IMAGES, LABELS.float()), r"one whole number .* got torch.float32 \[7\]"),
        (TensorDataset(IMAGES, LABELS[:, None]), r"one whole number .* got torch.int64 \[7, 1\]"),
        ([{"x": IMAGES[0]}], r"got \['x'\]"),
        ([(IMAGES[0], 1), (IMAGES[0, :, :1], 2)], "images that make no batch .*: they have to be tensors of one size"),
        ([(Image.new("RGB", (2, 2)), 1)], "images that make no batch .*: they have to be tensors of one size"),
    ],
)
def test_what_is_no_pair(given: Any, message: str):
    with pytest.raises(UserError, match=message):
        next(iter(Judge(given).batches()))


def test_names_and_transform_are_the_data_sets_or_the_networks():
    network = nn.Linear(2, 2)
    assert class_names(network, Judge(Subset(Dicts(), [0, 1]))) == ["a", "b", "c"]
    assert class_names(network, Judge((IMAGES, LABELS))) is None
    network.config = SimpleNamespace(id2label={1: "dog", 0: "cat"})
    assert class_names(network, None) == ["cat", "dog"]
    several = Dicts()
    several.classes = [("tench", "Tinca tinca"), ("crane",), ("crane", "a bird"), "owl"]  # as torchvision's ImageNet
    assert class_names(network, Judge(several)) == ["tench", "crane", "crane, a bird", "owl"]
    assert transform_of(Judge(Subset(Dicts(), [0])))(3) == 3
    assert transform_of(Judge((IMAGES, LABELS))) is None


def test_halves_are_disjoint_and_drawn_by_seed():
    judged, rest = halves(11, divide=True, seed=0)
    assert (len(judged), len(rest)) == (6, 5)
    assert sorted([*judged.tolist(), *rest.tolist()]) == list(range(11))
    assert not torch.equal(halves(11, True, 1)[0], judged)
    assert halves(5, divide=False, seed=0)[0].tolist() == list(range(5))
