import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder

from editable.data import ImageFolderDataModule
from editable.errors import UserError


def folder_data(root, **kwargs):
    return ImageFolderDataModule(str(root), **{"batch_size": 2, "num_workers": 0, **kwargs})


def read_all(data):
    data.setup("test")
    return list(data.test_dataloader())


def denormalised(data, dataset):
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (data.mean, data.std))
    return [((dataset[i][0] * std + mean) * 255).round().to(torch.uint8) for i in range(len(dataset))]


@pytest.mark.parametrize("cache", [False, True])
def test_images_come_in_the_order_of_torchvision(make_folder, cache):
    root = make_folder("test", classes="ba", count=12)
    shutil.move(root / "test" / "b" / "11.png", root / "test" / "b" / "1.png")  # "1.png" sorts after "09.png", "10.png"
    data = folder_data(root, cache=cache)
    data.setup("test")
    assert data.classes == ["a", "b"]
    listed = ImageFolder(root / "test")
    stored = [torch.from_numpy(np.array(image)).permute(2, 0, 1) for image, _ in listed]
    assert torch.equal(torch.stack(denormalised(data, data.test_dataset)), torch.stack(stored))
    assert [label for _, label in (data.test_dataset[i] for i in range(24))] == listed.targets


def test_three_folders(make_folder):
    for split, count in {"train": 4, "val": 3, "test": 2}.items():
        root = make_folder(split, count=count)
    data = folder_data(root, validation_fraction=0.5)
    data.setup("fit")
    data.setup("test")
    assert [len(part) for part in (data.train_dataset, data.val_dataset, data.test_dataset)] == [8, 6, 4]
    assert not data.tests_on_validation
    images, labels = next(iter(data.train_dataloader()))
    assert images.shape == (2, 3, 8, 8)
    assert labels.dtype == torch.int64


def test_training_folder_alone(make_folder):
    data = folder_data(make_folder("train"), validation_fraction=0.25)
    data.setup("fit")
    data.setup("test")
    assert [len(part) for part in (data.train_dataset, data.val_dataset, data.test_dataset)] == [6, 2, 2]
    assert data.tests_on_validation


def test_test_folder_alone(make_folder):
    data = folder_data(make_folder("test"))
    data.setup("test")
    data.setup("predict")
    assert len(data.test_dataset) == 8
    for stage in ("fit", "validate"):
        with pytest.raises(UserError, match="has no sub-folder train"):
            data.setup(stage)


def test_missing_root(tmp_path):
    with pytest.raises(UserError, match=f"The image folder {tmp_path / 'nowhere'} does not exist"):
        folder_data(tmp_path / "nowhere").setup("fit")


def test_no_split(tmp_path):
    with pytest.raises(UserError, match="must have a sub-folder train, val or test, but has none"):
        folder_data(tmp_path).setup("test")


def test_no_class_folder(tmp_path):
    (tmp_path / "train").mkdir()
    with pytest.raises(UserError, match="has no class folders"):
        folder_data(tmp_path).setup("fit")


def test_empty_class_folder(make_folder):
    root = make_folder("train")
    (root / "train" / "empty").mkdir()
    with pytest.raises(UserError, match="must hold an image, but 1 hold none: empty"):
        folder_data(root).setup("fit")


def test_class_names_that_differ_are_named(make_folder):
    make_folder("train", classes="abc")
    root = make_folder("test", classes="abd")
    with pytest.raises(UserError, match=r"test has the class folder d, which .*train has not: .* the same names"):
        folder_data(root).setup("test")


@pytest.mark.parametrize("kind", ["empty", "not there"])
def test_a_class_without_test_images_does_not_prevent_a_test_of_the_others(make_folder, kind):
    make_folder("train", classes="abc")
    root = make_folder("test", classes="ac")
    if kind == "empty":
        (root / "test" / "b").mkdir()
    data = folder_data(root)
    with pytest.warns(UserWarning, match=r"1 of 3 classes have no image in .*test: b"):
        data.setup("test")
    assert data.test_dataset.images.labels.unique().tolist() == [0, 2]
    assert data.classes == ["a", "b", "c"]


def test_number_of_classes_is_checked(make_folder):
    root = make_folder("train")
    assert folder_data(root, num_classes=2).num_classes == 2
    with pytest.raises(UserError, match=r"num_classes is 10, but .*train has 2 class folders"):
        folder_data(root, num_classes=10).setup("fit")


@pytest.mark.parametrize(("cache", "num_workers"), [(False, 0), (False, 1), (True, 0)])
def test_broken_image_is_named_in_one_sentence(make_folder, cache, num_workers):
    root = make_folder("test")
    broken = root / "test" / "b" / "02.png"
    broken.write_bytes(b"no image")
    data = folder_data(root, cache=cache, num_workers=num_workers)
    with pytest.raises(
        UserError, match=rf"^The image {broken} cannot be read \([^\n]*\): replace or remove the file\.$"
    ):
        read_all(data)


@pytest.mark.parametrize(("cache", "num_workers"), [(False, 0), (False, 1), (True, 0)])
def test_sizes_that_differ_need_an_image_size(make_folder, cache, num_workers):
    make_folder("test", classes="a")
    root = make_folder("test", classes="b", size=(8, 10))
    data = folder_data(root, cache=cache, num_workers=num_workers)
    with pytest.raises(UserError, match=r"^The image .*b/00\.png is 8×10 pixels [^\n]* set image_size [^\n]*\.$"):
        read_all(data)
    resized = folder_data(root, cache=cache, num_workers=num_workers, image_size=6)
    assert [len(images) for images, _ in read_all(resized)] == [2, 2, 2, 2]
    assert resized.image_shape == (3, 6, 6)


def test_evaluation_resizes_the_shorter_side_then_crops_the_centre(tmp_path):
    folder = tmp_path / "test" / "a"
    folder.mkdir(parents=True)
    pixels = np.zeros((40, 80, 3), dtype=np.uint8)
    pixels[10:30, 30:50] = 255  # the middle 20×20 of the image, which is 10×10 once the shorter side is 20
    Image.fromarray(pixels).save(folder / "image.png")
    data = folder_data(tmp_path, image_size=12, resize_size=20)
    data.setup("test")
    (image,) = denormalised(data, data.test_dataset)
    assert image.shape == (3, 12, 12)
    assert image[:, 2:10, 2:10].min() == 255
    assert image[:, [0, -1]].max() < 40


@pytest.mark.parametrize("augmentation", ["none", "crop_flip", "resized_crop_flip"])
@pytest.mark.parametrize("image_size", [None, 6])
def test_augmented_images_have_the_shape(make_folder, augmentation, image_size):
    data = folder_data(make_folder("train"), augmentation=augmentation, image_size=image_size)
    data.setup("fit")
    images, _ = next(iter(data.train_dataloader()))
    assert images.shape[1:] == data.image_shape == (3, image_size or 8, image_size or 8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_size": 0}, "image_size must be at least 1, got 0"),
        ({"resize_size": 8}, "resize_size is 8, but must be at least image_size, which is not set"),
        ({"image_size": 9, "resize_size": 8}, "resize_size is 8, but must be at least image_size, which is 9"),
    ],
)
def test_sizes_out_of_range(tmp_path, arguments, message):
    with pytest.raises(UserError, match=message):
        folder_data(tmp_path, **arguments)


def test_names_in_two_forms_of_unicode_are_one_class(tmp_path: Path):
    """é as one letter in train, and as e with an accent behind it in test, as some file systems store it."""
    for split, name in (("train", "caf\u00e9"), ("test", "cafe\u0301")):
        for position, folder in enumerate((name, "other")):
            (tmp_path / split / folder).mkdir(parents=True)
            Image.new("RGB", (4, 4), (position, 0, 0)).save(tmp_path / split / folder / "1.png")
    data = ImageFolderDataModule(str(tmp_path), num_workers=0)
    data.setup("test")
    assert data.classes == ["caf\u00e9", "other"]
    assert data.test_dataset.images.labels.tolist() == [0, 1]
    assert list(data.test_dataset.images.names) == ["cafe\u0301/1.png", "other/1.png"]
    (tmp_path / "train" / "cafe\u0301").mkdir()
    with pytest.raises(UserError, match="has two folders called cafe\u0301, in two ways to write it"):
        _ = ImageFolderDataModule(str(tmp_path)).classes


def test_names_that_are_no_text(tmp_path: Path):
    os.makedirs(os.fsencode(tmp_path / "test") + b"/caf\xe9")
    with pytest.raises(UserError, match="is no text in UTF-8: rename it"):
        _ = ImageFolderDataModule(str(tmp_path)).classes


def test_the_deployed_networks_classes_in_its_order(make_folder):
    data = folder_data(make_folder("test", classes="ab", count=2), classes=["b", "c", "a"])
    with pytest.warns(UserWarning, match=r"1 of 3 classes have no image in .*test: c"):
        data.setup("test")
    assert data.classes == ["b", "c", "a"]
    names = {"b": 0, "a": 2}
    assert [names[name[0]] for name in data._split("test").names] == data._split("test").labels.tolist()


def test_listed_classes_may_lack_training_images(make_folder):
    data = folder_data(make_folder("train", classes="ab"), classes=["b", "c", "a"])
    with pytest.warns(UserWarning, match="classes have no image in .*train: c"):
        data.setup("fit")
    with pytest.raises(UserError, match="num_classes is 2, but 3 are listed"):
        folder_data(data.root, classes=["b", "c", "a"], num_classes=2).setup("fit")


@pytest.mark.parametrize(
    ("classes", "sentence"),
    [
        (["a", "bb"], r"test has the class folder b, which is none of the 2 listed classes: near names are bb"),
        (["c", "d"], r"test has the class folder a, and 1 others, which is none of the 2 listed classes"),
    ],
)
def test_each_class_folder_is_one_of_the_listed_classes(make_folder, classes, sentence):
    with pytest.raises(UserError, match=sentence):
        folder_data(make_folder("test"), classes=classes).setup("test")


def test_folders_of_other_names(make_folder):
    for split in ("training", "held out", "evaluation/small"):
        root = make_folder(split)
    names = {"train_folder": "training", "val_folder": "held out", "test_folder": "evaluation/small"}
    data = folder_data(root, **names)
    data.setup("fit")
    data.setup("test")
    assert [len(part) for part in (data.train_dataset, data.val_dataset, data.test_dataset)] == [8, 8, 8]
    assert not data.tests_on_validation
    with pytest.raises(
        UserError, match="sub-folder train, val or test, but has none: others are named by train_folder"
    ):
        folder_data(root).setup("test")
    with pytest.raises(UserError, match="must have a sub-folder a, b or c, but has none"):
        folder_data(root, train_folder="a", val_folder="b", test_folder="c").setup("test")
    with pytest.raises(UserError, match="train_folder, val_folder and test_folder must differ, got train, val, train"):
        folder_data(root, test_folder="train")


@pytest.mark.parametrize("cache", [False, True])
def test_images_of_two_sides(make_folder, cache):
    data = folder_data(make_folder("train", size=(10, 14)), image_size=[6, 8], cache=cache)
    for augmentation in ("none", "crop_flip", "resized_crop_flip"):
        data = folder_data(data.root, image_size=[6, 8], resize_size=[8, 9], cache=cache, augmentation=augmentation)
        data.setup("fit")
        assert next(iter(data.train_dataloader()))[0].shape == (2, 3, 6, 8)
        assert data.image_shape == (3, 6, 8)


def test_images_are_grey_for_a_network_of_one_channel(make_folder):
    data = folder_data(make_folder("test", count=1), mean=[0.0], std=[1.0])
    data.setup("test")
    expected = Image.open(data.root / "test/a/00.png").convert("L")
    seen = (data.test_dataset[0][0] * 255).round().to(torch.uint8)
    assert torch.equal(seen, torch.from_numpy(np.array(expected))[None])


def test_training_crops_may_be_smaller_than_what_is_evaluated(make_folder):
    for split in ("train", "val"):
        root = make_folder(split, count=3)
    data = folder_data(root, image_size=[8, 10], train_size=6, augmentation="trivial_augment")
    data.setup("fit")
    assert data.train_dataset[0][0].shape == (3, 6, 6)
    assert data.val_dataset[0][0].shape == data.image_shape == (3, 8, 10)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"train_size": 6}, "train_size is 6, but augmentation is none, which takes no crops of random scale"),
        ({"train_size": 0, "augmentation": "rand_augment"}, "train_size must be at least 1, got 0"),
        ({"train_size": [1, 2, 3], "augmentation": "rand_augment"}, "train_size must be one side, or height and width"),
    ],
)
def test_training_crops_that_cannot_be(tmp_path, settings, sentence):
    with pytest.raises(UserError, match=sentence):
        folder_data(tmp_path, image_size=8, **settings)
