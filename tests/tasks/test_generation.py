"""Training a generator: the steps of a plain loop, averaged weights, the distance, resuming, mistakes."""

import copy
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.optim import SGD
from torch.utils.data import DataLoader, TensorDataset

from editable.errors import UserError
from editable.models import Discriminator, Generator, NormalLatents, load_weights
from editable.tasks import GenerationTask

SIZES = {"image_size": 4, "channels": 1, "width": 2, "base_size": 2}


def networks() -> tuple[Generator, Discriminator]:
    torch.manual_seed(0)
    return Generator(latent_size=3, **SIZES), Discriminator(**SIZES)


def task(**settings) -> GenerationTask:
    generator, discriminator = networks()
    defaults = {"optimizer": partial(SGD, lr=0.1), "discriminator_optimizer": partial(SGD, lr=0.2), "num_samples": 40}
    return GenerationTask(generator, discriminator, **{**defaults, **settings})


def images(number: int = 16, seed: int = 1) -> torch.Tensor:
    return torch.rand(number, 1, 4, 4, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def loader(number: int = 16, seed: int = 1) -> DataLoader:
    return DataLoader(TensorDataset(images(number, seed), torch.zeros(number)), batch_size=8)


def test_fit_takes_the_steps_of_a_plain_loop_and_leaves_the_average(make_trainer):
    trained = task(average_decay=0.6)
    generator, discriminator = (copy.deepcopy(network).train() for network in (trained.network, trained.discriminator))
    optimizers = SGD(generator.parameters(), lr=0.1), SGD(discriminator.parameters(), lr=0.2)
    averages = []
    for step, real in enumerate(images().split(8)):
        generated = generator(NormalLatents(3)(8, seed=1 + 2 * step))
        loss = (1 - discriminator(real)).relu().mean() + (1 + discriminator(generated.detach())).relu().mean()
        optimizers[1].zero_grad()
        loss.backward()
        optimizers[1].step()
        optimizers[0].zero_grad()
        generator_loss = -discriminator(generated).mean()
        generator_loss.backward()
        optimizers[0].step()
        averages.append({name: value.clone() for name, value in generator.state_dict().items()})
    make_trainer().fit(trained, loader())
    for name, value in trained.network.state_dict().items():
        first, second = averages[0][name].double(), averages[1][name].double()
        if "num_batches" not in name:  # a number of batches is no average
            torch.testing.assert_close(value.double(), 0.6 * first + 0.4 * second, rtol=1e-5, atol=1e-6)
    assert trained.trainer.callback_metrics["train_generator_loss"].isfinite()
    assert trained.trainer.callback_metrics["train_discriminator_loss"] > 0


def frechet(real: np.ndarray, generated: np.ndarray) -> float:
    """From the formula, with scipy's matrix root."""
    means = real.mean(0) - generated.mean(0)
    first, second = np.cov(real, rowvar=False), np.cov(generated, rowvar=False)
    root = scipy.linalg.sqrtm(first @ second).real
    return float(means @ means + np.trace(first + second - 2 * root))


def test_validation_looks_at_pixels_made_with_the_averaged_weights(make_trainer):
    trained = task(average_decay=0.5)
    trainer = make_trainer(num_sanity_val_steps=2)
    trainer.fit(trained, loader(), loader(30, seed=2))
    # After the fit, the network has the averaged weights.
    with torch.no_grad():
        samples = trained.network.eval()(NormalLatents(3)(40, seed=0))
    torch.testing.assert_close(trained.samples, samples / 2 + 0.5)
    as_pixels = [(part.flatten(1).double().numpy() + 1) / 2 for part in (images(30, seed=2), samples)]
    logged = float(trainer.callback_metrics["val_frechet_distance"])
    assert logged == pytest.approx(frechet(*as_pixels), rel=1e-3)
    trainer.test(trained, loader(30, seed=2), verbose=False)
    assert float(trainer.callback_metrics["test_frechet_distance"]) == pytest.approx(logged, rel=1e-5)


def test_features_of_a_network_in_place_of_pixels(make_trainer):
    torch.manual_seed(1)
    features = nn.Sequential(nn.Flatten(), nn.Linear(16, 5), nn.BatchNorm1d(5), nn.Tanh())
    before = copy.deepcopy(features.state_dict())
    trained = task(feature_network=features)
    trainer = make_trainer()
    trainer.fit(trained, loader(), loader(30, seed=2))
    torch.testing.assert_close(features.state_dict(), before)
    with torch.no_grad():
        samples = trained.network.eval()(NormalLatents(3)(40, seed=0))
        pair = [features.eval()(part).double().numpy() for part in (images(30, seed=2), samples)]
    assert float(trainer.callback_metrics["val_frechet_distance"]) == pytest.approx(frechet(*pair), rel=1e-3)


def test_of_a_single_image_there_is_no_distance(make_trainer):
    """It is left out, with one warning for all validations; a sanity check of one image says nothing."""
    trained = task()
    trainer = make_trainer(max_epochs=2, num_sanity_val_steps=1)
    with pytest.warns(UserWarning, match="val_frechet_distance is left out: it needs the covariance") as warned:
        trainer.fit(trained, loader(), loader(1))
    assert sum("left out" in str(one.message) for one in warned) == 1
    assert "val_frechet_distance" not in trainer.callback_metrics
    one_by_one = DataLoader(TensorDataset(images(3, 2), torch.zeros(3)))
    make_trainer(num_sanity_val_steps=1).fit(trained, loader(), one_by_one)
    assert "val_frechet_distance" in trained.trainer.callback_metrics
    with pytest.warns(UserWarning, match="test_frechet_distance is left out"):
        assert make_trainer().test(task(), loader(1), verbose=False) == [{}]


def test_resumed_training_ends_where_uninterrupted_training_does(make_trainer, tmp_path: Path):
    whole, first, second = task(), task(), task()
    make_trainer(max_epochs=2).fit(whole, loader())
    checkpoint = ModelCheckpoint(tmp_path, filename="last")
    make_trainer(enable_checkpointing=True, callbacks=[checkpoint]).fit(first, loader())
    make_trainer(max_epochs=2).fit(second, loader(), ckpt_path=str(tmp_path / "last.ckpt"))
    torch.testing.assert_close(second.network.state_dict(), whole.network.state_dict())


def test_a_checkpoint_gives_the_averaged_generator_to_others(make_trainer, tmp_path: Path):
    trained = task()
    checkpoint = ModelCheckpoint(tmp_path, filename="last")
    make_trainer(enable_checkpointing=True, callbacks=[checkpoint]).fit(trained, loader())
    other = Generator(latent_size=3, **SIZES)
    load_weights(other, tmp_path / "last.ckpt")
    torch.testing.assert_close(other.state_dict(), trained.network.state_dict())
    again = task(weights=str(tmp_path / "last.ckpt"))
    torch.testing.assert_close(again.network.state_dict(), trained.network.state_dict())


class Sized(nn.Module):
    """Scores of a shape that is none."""

    def forward(self, x):
        return x.flatten(1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": "other"}, "hinge, non_saturating"),
        ({"average_decay": 1.0}, r"average_decay must be in \[0, 1\), got 1.0"),
        ({"num_samples": 1}, "num_samples must be at least 2, got 1"),
        ({"latents": NormalLatents(5)}, r"length 3, got shape \[5\]"),
        ({"discriminator": Discriminator(image_size=8, width=2)}, r"images \[1, 4, 4\] do not fit the discriminator"),
        ({"discriminator": Sized()}, r"one score for each image, \[1\], got \[1, 16\]"),
        ({"feature_network": nn.Linear(3, 2)}, "do not fit the feature network"),
        ({"weights": "nowhere.safetensors"}, "no weights file at 'nowhere.safetensors'"),
    ],
)
def test_mistakes_end_in_a_sentence(settings, message):
    generator, discriminator = networks()
    with pytest.raises(UserError, match=message):
        GenerationTask(**{"network": generator, "discriminator": discriminator, **settings})


def test_images_of_another_range_or_shape(make_trainer):
    bright = TensorDataset(3 * images(), torch.zeros(16))
    with pytest.raises(UserError, match=r"lie in \[-1, 1\], but the data's in \[-.*set data.mean and data.std to 0.5"):
        make_trainer().fit(task(), DataLoader(bright, batch_size=8))
    larger = TensorDataset(torch.zeros(16, 1, 8, 8), torch.zeros(16))
    with pytest.raises(UserError, match=r"data's images are \[1, 8, 8\], but the generator's \[1, 4, 4\]"):
        make_trainer().fit(task(), DataLoader(larger, batch_size=8))


def test_nothing_to_predict(make_trainer):
    with pytest.raises(UserError, match="a generator predicts nothing"):
        make_trainer().predict(task(), loader())
