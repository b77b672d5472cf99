"""The planted cue: how many images have it, where it is, and that nothing but the seed decides which."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from editable.data import ImageFolderDataModule, PlantedPatch
from editable.data.images.images import ArrayImages
from editable.errors import UserError

CLASSES = ["cat", "dog", "frog"]
SIZE = 12


def labels_of(per_class: int) -> Tensor:
    return torch.arange(3).repeat_interleave(per_class)


def counts(chosen: Tensor, labels: Tensor) -> list[int]:
    return [int(chosen[labels == label].sum()) for label in range(3)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Eight grey images in each class of train and test; no pixel is 255."""
    random = np.random.RandomState(0)
    for split in ("train", "test"):
        for name in CLASSES:
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(8):
                pixels = random.randint(0, 200, (SIZE, SIZE, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / name / f"{number}.png")
    return tmp_path


def planted_of(dataset) -> Tensor:
    """Which items have the patch, seen by its pixels alone: red and blue are as bright as can be, green is 0."""
    pixels = torch.stack([dataset[index][0] for index in range(len(dataset))])
    corner = pixels[:, :, SIZE - 4 : SIZE - 1, SIZE - 4 : SIZE - 1]
    return ((corner - torch.tensor([255.0, 0.0, 255.0])[:, None, None]).abs() < 0.5).all(dim=(1, 2, 3))


@pytest.mark.parametrize(
    ("split", "test_share", "expected"),
    [
        ("train", 1.0, [10, 2, 2]),
        ("val", 0.0, [10, 2, 2]),
        ("test", None, [10, 2, 2]),
        ("test", 1.0, [20, 20, 20]),
        ("test", 0.0, [0, 0, 0]),
        ("test", 0.25, [5, 5, 5]),
    ],
)
def test_shares_of_each_split_are_exact(split, test_share, expected):
    labels = labels_of(20)
    patch = PlantedPatch("cat", share=0.5, other_share=0.1, test_share=test_share)
    assert counts(patch.chosen(labels, split, CLASSES), labels) == expected


def test_seed_and_split_decide_which_images_have_it():
    labels = labels_of(40)
    chosen = PlantedPatch("dog").chosen(labels, "train", CLASSES)
    assert torch.equal(chosen, PlantedPatch("dog").chosen(labels, "train", CLASSES))
    assert not torch.equal(chosen, PlantedPatch("dog", seed=1).chosen(labels, "train", CLASSES))
    assert not torch.equal(chosen, PlantedPatch("dog").chosen(labels, "test", CLASSES))
    assert not torch.equal(chosen, PlantedPatch("dog").chosen(labels, "val", CLASSES))


@pytest.mark.parametrize(
    ("corner", "rows", "columns"),
    [
        ("upper_left", (2, 5), (2, 5)),
        ("upper_right", (2, 5), (9, 12)),
        ("lower_left", (5, 8), (2, 5)),
        ("lower_right", (5, 8), (9, 12)),
    ],
)
def test_patch_is_in_its_corner_and_leaves_the_rest(corner, rows, columns):
    patch = PlantedPatch("cat", size=3, margin=2, corner=corner, colour=(0.2, 1.0, 0.0))
    image = torch.randint(60, 200, (3, 10, 14), dtype=torch.uint8)
    pasted = patch.paste(image)
    expected = image.clone()
    expected[:, rows[0] : rows[1], columns[0] : columns[1]] = torch.tensor([51, 255, 0], dtype=torch.uint8)[
        :, None, None
    ]
    assert torch.equal(pasted, expected)
    assert torch.equal(patch.mask(10, 14).bool(), (pasted != image).any(dim=0))


def test_floats_and_bytes_get_the_same_colour():
    patch = PlantedPatch("cat", colour=(0.2, 1.0, 0.6))
    image = torch.zeros(3, 12, 12)
    assert torch.allclose(patch.paste(image), patch.paste((image * 255).to(torch.uint8)) / 255, atol=1e-6)


def test_planting_leaves_the_images_themselves_alone():
    stored = torch.zeros(3, 3, 12, 12, dtype=torch.uint8)
    planted = PlantedPatch("cat", share=1.0).plant(ArrayImages(stored, torch.arange(3)), "train", CLASSES)
    assert planted[0][0].any()
    assert not planted[1][0].any()
    assert [label for _, label in (planted[0], planted[1], planted[2])] == [0, 1, 2]
    assert not stored.any()


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_data_module_plants_it(root: Path, cache: bool, num_workers: int):
    patch = PlantedPatch("dog", share=0.5, other_share=0.25, test_share=1.0, size=3)
    settings = {"mean": (0, 0, 0), "std": (1 / 255,) * 3, "batch_size": 8, "validation_fraction": 0}
    data = ImageFolderDataModule(str(root), cache=cache, num_workers=num_workers, cue=patch, **settings)
    data.setup("test")
    data.setup("fit")
    assert planted_of(data.test_dataset).all()
    training = data.unaugmented_training_images()
    planted = planted_of(training)
    assert counts(planted, labels_of(8)) == [2, 4, 2]
    assert torch.equal(planted, patch.chosen(labels_of(8), "train", CLASSES))
    seen = sum(
        int(planted_of(list(zip(images, labels, strict=True))).sum()) for images, labels in data.train_dataloader()
    )
    assert seen == 8


def test_a_smaller_part_of_the_images_has_it_where_the_whole_has(root: Path):
    settings = {"mean": (0, 0, 0), "std": (1 / 255,) * 3, "num_workers": 0, "validation_fraction": 0.25}
    patch = PlantedPatch("dog", share=0.5, size=3)
    whole, part = (
        ImageFolderDataModule(str(root), cue=patch, train_limit=limit, **settings).unaugmented_training_images()
        for limit in (None, 9)
    )
    by_image = {tuple(image.flatten().tolist()) for image, _ in whole}
    assert all(tuple(image.flatten().tolist()) in by_image for image, _ in part)


def test_without_a_cue_images_are_as_stored(root: Path):
    data = ImageFolderDataModule(str(root), mean=(0, 0, 0), std=(1 / 255,) * 3, num_workers=0)
    data.setup("test")
    assert not planted_of(data.test_dataset).any()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"share": 1.5}, r"share must be in \[0, 1\], got 1.5"),
        ({"other_share": -0.1}, "other_share must be in"),
        ({"test_share": 2}, "test_share must be in"),
        ({"size": 0}, "size must be at least 1, got 0"),
        ({"margin": -1}, "margin must be at least 0"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"colour": (1.0, 0.0)}, "colour is red, green and blue"),
        ({"colour": (255, 0, 0)}, "colour must be in"),
        ({"corner": "middle"}, "corner is 'middle', but must be one of upper_left"),
    ],
)
def test_mistakes(settings, expected):
    with pytest.raises(UserError, match=expected):
        PlantedPatch("cat", **settings)


def test_mistakes_about_the_images():
    with pytest.raises(
        UserError, match="class_name of the planted patch has 'cow', which is none of the 3 classes of the data"
    ):
        PlantedPatch("cow").chosen(labels_of(2), "train", CLASSES)
    with pytest.raises(UserError, match="a patch of 5 pixels with a margin of 1 does not fit in an image of 5×8"):
        PlantedPatch("cat").paste(torch.zeros(3, 5, 8))
    with pytest.raises(UserError, match="three channels, got 1"):
        PlantedPatch("cat").paste(torch.zeros(1, 8, 8))
