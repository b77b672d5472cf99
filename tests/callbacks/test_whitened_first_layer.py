"""The first layer whitens the training images' patches before a fit, and never afterwards."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import Tensor, nn
from torch.nn import functional

from editable.callbacks import WhitenedFirstLayer
from editable.data import DigitsDataModule
from editable.errors import UserError
from editable.models import cifar_whitened_convnet
from editable.tasks import ClassificationTask


def make_task(**arguments) -> ClassificationTask:
    torch.manual_seed(0)
    return ClassificationTask(cifar_whitened_convnet(widths=[4, 6], in_channels=1), **arguments)


def training_images() -> Tensor:
    data = DigitsDataModule(augmentation="none")
    data.setup("fit")
    images = data.unaugmented_training_images()
    return torch.stack([images[index][0] for index in range(len(images))])


def test_outputs_on_training_images_have_the_identity_as_covariance(make_trainer):
    task = make_task()
    callbacks = [WhitenedFirstLayer(num_images=10_000, epsilon=0.0), EMAWeightAveraging(decay=0.5)]
    make_trainer(max_epochs=1, limit_train_batches=1, limit_val_batches=1, callbacks=callbacks).fit(
        task, DigitsDataModule(augmentation="none")
    )
    layer = task.network.whitening.double()
    out = functional.conv2d(training_images().double(), layer.weight).transpose(0, 1).flatten(1)
    torch.testing.assert_close(out[:4].cov(), torch.eye(4, dtype=torch.float64), rtol=1e-4, atol=1e-4)


def test_weights_that_are_given_keep_their_layer(make_trainer, tmp_path: Path):
    path = tmp_path / "weights.pt"
    torch.save(make_task().network.state_dict(), path)
    task = make_task(weights=str(path))
    before = task.network.whitening.weight.clone()
    make_trainer(max_steps=1, limit_val_batches=0, callbacks=[WhitenedFirstLayer()]).fit(task, DigitsDataModule())
    assert torch.equal(task.network.whitening.weight, before)


def test_a_test_keeps_the_layer(make_trainer):
    task = make_task()
    before = task.network.whitening.weight.clone()
    make_trainer(limit_test_batches=1, callbacks=[WhitenedFirstLayer()]).test(task, DigitsDataModule(), verbose=False)
    assert torch.equal(task.network.whitening.weight, before)


@pytest.mark.parametrize("layer", ["nothing", "fc", ""])
def test_a_layer_that_is_no_convolution(make_trainer, layer: str):
    trainer = make_trainer(max_steps=1, callbacks=[WhitenedFirstLayer(layer)])
    with pytest.raises(UserError, match=f"the network has no convolution '{layer}' to whiten"):
        trainer.fit(make_task(), DigitsDataModule())


def test_a_grouped_convolution(make_trainer):
    network = nn.Sequential(nn.Conv2d(1, 3, 2), nn.Flatten(), nn.LazyLinear(10))
    trainer = make_trainer(max_steps=1, callbacks=[WhitenedFirstLayer("0")])
    with pytest.raises(UserError, match="two channels for each of up to 4 directions"):
        trainer.fit(ClassificationTask(network), DigitsDataModule())


@pytest.mark.parametrize("numbers", [{"num_images": 0}, {"epsilon": -1e-4}, {"seed": -1}, {"epsilon": float("nan")}])
def test_numbers_out_of_range(numbers: dict):
    with pytest.raises(UserError, match=next(iter(numbers))):
        WhitenedFirstLayer(**numbers)
