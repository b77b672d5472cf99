from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.demos.boring_classes import BoringModel
from torch.utils.data import SequentialSampler

from editable.data import DigitsDataModule, ImageDataModule
from editable.data.images.images import ArrayImages
from editable.errors import UserError
from tests.quiet_trainer import quiet_trainer


class GreyLevels(ImageDataModule):
    """Image i of a part is a constant: its place in the part. The parts named in ``own`` exist."""

    def __init__(self, own=("train", "val", "test"), count=40, sizes=None, **kwargs):
        defaults = {
            "batch_size": 8,
            "num_workers": 0,
            "seed": 0,
            "validation_fraction": 0.25,
            "train_limit": None,
            "mean": (0.0,),
            "std": (1 / 255,),
            "augmentation": "none",
        }
        super().__init__(**{**defaults, **kwargs})
        self.own, self.count, self.sizes, self.loads = own, count, sizes or {}, []

    @property
    def classes(self):
        return ["even", "odd"]

    def load_split(self, split):
        self.loads.append(split)
        if split not in self.own:
            return None
        size = self.sizes.get(split, 4)
        images = torch.arange(self.count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, size, size)
        return ArrayImages(images, torch.arange(self.count) % 2)


def places(loader):
    return torch.cat([images[:, 0, 0, 0] for images, _ in loader]).round().long().tolist()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_size", 0),
        ("num_workers", -1),
        ("seed", -1),
        ("validation_fraction", 1.0),
        ("validation_fraction", -0.1),
        ("train_limit", 0),
        ("test_limit", 0),
        ("std", (0.0,)),
        ("mean", (0.5, 0.5)),
        ("augmentation", "mixup"),
    ],
)
def test_argument_out_of_range_is_named(name, value):
    with pytest.raises(UserError, match=rf"^{name} .*must be ") as raised:
        GreyLevels(**{name: value})
    assert str(list(value) if isinstance(value, tuple) else value) in str(raised.value)


def test_channels_must_match():
    data = GreyLevels(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    with pytest.raises(UserError, match=r"mean is \[0.5, 0.5, 0.5\], but must be one number for each of 1 channels"):
        data.setup("test")


def test_batches_are_normalised_images_and_labels():
    data = GreyLevels(mean=(0.2,), std=(0.5,))
    data.setup("test")
    images, labels = next(iter(data.test_dataloader()))
    assert images.dtype == torch.float32
    assert labels.dtype == torch.int64
    expected = (torch.arange(8) / 255 - 0.2) / 0.5
    torch.testing.assert_close(images, expected.view(8, 1, 1, 1).expand(8, 1, 4, 4))
    assert labels.tolist() == [0, 1] * 4
    assert data.image_shape == (1, 4, 4)
    assert data.classes == ["even", "odd"]
    assert data.num_classes == 2
    assert data.mean == (0.2,)
    assert data.std == (0.5,)


@pytest.mark.parametrize("stage", ["test", "predict"])
def test_evaluation_is_in_order_and_whole(stage):
    data = GreyLevels(count=43)
    data.setup(stage)
    loader = getattr(data, f"{stage}_dataloader")()
    assert isinstance(loader.sampler, SequentialSampler)
    assert places(loader) == list(range(43))


def test_training_is_shuffled_and_drops_the_last_batch():
    data = GreyLevels(count=43)
    data.setup("fit")
    loader = data.train_dataloader()
    seen = places(loader)
    assert len(loader) == 5
    assert len(set(seen)) == 40
    assert seen != sorted(seen)
    assert places(data.val_dataloader()) == list(range(43))


def test_validation_is_held_out_where_there_is_none():
    data = GreyLevels(own=("train", "test"))
    data.setup("fit")
    validation = places(data.val_dataloader())
    training = [places([(image[None], 0)])[0] for image, _ in (data.train_dataset[i] for i in range(30))]
    assert len(validation) == 10
    assert sorted(validation + training) == list(range(40))
    alone = GreyLevels(own=("train", "test"))
    alone.setup("validate")
    assert places(alone.val_dataloader()) == validation


def test_no_validation():
    data = GreyLevels(own=("train",), validation_fraction=0.0)
    data.setup("fit")
    assert len(data.train_dataset) == 40
    assert data.val_dataloader() == []
    with pytest.raises(UserError, match=r"validation_fraction is 0.0, and must be above 0"):
        data.setup("validate")


def test_validation_images_are_the_test_images_where_there_are_none():
    own, held_out = GreyLevels(own=("train", "val")), GreyLevels(own=("train",))
    own.setup("test")
    assert places(own.test_dataloader()) == list(range(40))
    held_out.setup("validate")
    held_out.setup("test")
    assert places(held_out.test_dataloader()) == places(held_out.val_dataloader())


@pytest.mark.parametrize(("own", "limit"), [(("train", "val"), 15), (("train",), 5), (("train",), None)])
def test_which_validation_images_are_the_test_images(own, limit):
    data = GreyLevels(own=own, test_limit=limit)
    data.setup("validate")
    data.setup("test")
    validated = torch.tensor(places(data.val_dataloader()))
    assert validated[data.tested_validation_images].tolist() == places(data.test_dataloader())


def test_train_limit_leaves_validation_as_it_is():
    few, all_ = GreyLevels(own=("train",), train_limit=10), GreyLevels(own=("train",))
    few.setup("fit")
    all_.setup("fit")
    assert len(few.train_dataset) == 10
    assert places(few.val_dataloader()) == places(all_.val_dataloader())
    with pytest.raises(UserError, match="train_limit is 31, but there are only 30"):
        GreyLevels(own=("train",), train_limit=31).setup("fit")


def test_fewer_test_images_are_chosen_by_seed():
    def places_in_test(**settings):
        data = GreyLevels(**settings)
        data.setup("test")
        return places(data.test_dataloader())

    few = places_in_test(test_limit=15)
    assert few == sorted(few)
    assert len(set(few)) == 15
    assert set(places_in_test(test_limit=5)) < set(few)
    assert places_in_test(test_limit=15, seed=1) != few
    assert set(places_in_test(test_limit=5, own=("train",))) < set(places_in_test(own=("train",)))
    with pytest.raises(UserError, match="test_limit is 41, but there are only 40 test images"):
        places_in_test(test_limit=41)


def test_batch_larger_than_the_training_images():
    data = GreyLevels(train_limit=7)
    data.setup("fit")
    with pytest.raises(UserError, match="batch_size is 8, but must be at most 7, the number of training images"):
        data.train_dataloader()


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("stage", ["fit", "validate", "test", "predict"])
def test_fewer_images_than_processes(stage, number):
    """Each process needs an image, whichever part of the data set is shared out; as many as there are do."""
    data = GreyLevels(batch_size=1, count=number)
    data.setup(stage)
    make = getattr(data, f"{'train' if stage == 'fit' else stage.removesuffix('idate')}_dataloader")
    fit_loop = quiet_trainer().fit_loop
    data.trainer = SimpleNamespace(distributed_sampler_kwargs={"num_replicas": number, "rank": 0}, fit_loop=fit_loop)
    assert len(make().dataset) == number
    data.trainer.distributed_sampler_kwargs["num_replicas"] = number + 1
    said = "1 (.* )?image for 2 processes: set trainer.devices to 1"
    if number == 3:
        said = "3 (.* )?images for 4 processes: set trainer.devices to 3 or fewer"
    with pytest.raises(UserError, match=f"^{said}$"):
        make()


def test_parts_are_loaded_once():
    data = GreyLevels(own=("train", "test"))
    for stage in ("fit", "validate", "test", "predict", "fit"):
        data.setup(stage)
    assert sorted(data.loads) == ["test", "train", "val"]


def test_parts_must_have_one_size():
    data = GreyLevels(sizes={"test": 5})
    data.setup("fit")
    with pytest.raises(UserError, match=r"5×5 pixels .* another 4×4: set image_size"):
        data.setup("test")


@pytest.mark.parametrize("num_workers", [0, 1])
def test_workers_persist(num_workers):
    data = GreyLevels(num_workers=num_workers)
    data.setup("test")
    assert data.test_dataloader().persistent_workers == (num_workers > 0)
    assert places(data.test_dataloader()) == list(range(40))


@pytest.mark.filterwarnings("ignore:No seed found, seed set to")
def test_command_line_names_a_data_module():
    arguments = ["--data=editable.data.DigitsDataModule", "--data.mean=[0.5]", "--data.std=[0.25]"]
    arguments += ["--data.augmentation=none", "--data.train_limit=100"]
    data = LightningCLI(BoringModel, ImageDataModule, subclass_mode_data=True, run=False, args=arguments).datamodule
    assert isinstance(data, DigitsDataModule)
    assert data.mean == (0.5,)
    assert data.std == (0.25,)
    assert data.augmentation == "none"
    assert data.train_limit == 100


@pytest.mark.parametrize("num_replicas", [2, 3])
def test_ranks_share_the_test_images_without_repeating_any(num_replicas):
    whole = DigitsDataModule(batch_size=50)
    whole.setup("test")
    expected = torch.cat([labels for _, labels in whole.test_dataloader()])
    assert len(expected) % num_replicas != 0
    gathered = torch.full_like(expected, -1)
    for rank in range(num_replicas):
        data = DigitsDataModule(batch_size=50)
        data.trainer = SimpleNamespace(distributed_sampler_kwargs={"num_replicas": num_replicas, "rank": rank})
        data.setup("test")
        own = torch.cat([labels for _, labels in data.test_dataloader()])
        gathered[rank::num_replicas] = own
    assert torch.equal(gathered, expected)


def test_training_images_without_augmentation_in_order():
    data = GreyLevels(own=("train",), augmentation="shift", std=(1 / 255,))
    data.setup("fit")
    images = data.unaugmented_training_images()
    levels = [round(float(images[index][0].mean())) for index in range(len(images))]
    assert len(images) == 30
    assert levels == sorted(levels)
    assert all(float(images[index][0].std()) == 0 for index in range(3))


def test_images_from_elsewhere_are_normalised_alike():
    data = GreyLevels(mean=(0.5,), std=(0.25,))
    data.setup("test")
    elsewhere = data.evaluated(ArrayImages(torch.full((2, 1, 4, 4), 0.75), torch.tensor([0, 1])))
    assert torch.equal(elsewhere[1][0], torch.ones(1, 4, 4))
    with pytest.raises(UserError, match="set image_size"):
        data.evaluated(ArrayImages(torch.zeros(1, 1, 5, 4), torch.tensor([0])))
