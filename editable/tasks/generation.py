"""Training a generator against a discriminator, so that there is one to rewrite."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

from editable.errors import UserError, require_at_least, require_within
from editable.models import LatentSampler, check_fit, default_latents, evaluation_mode, generate, load_weights
from editable.tasks.adversarial_loss import AdversarialLoss, LossKind
from editable.tasks.optimizers import check_optimizer

__all__ = ["GenerationTask"]

Batch = tuple[Tensor, Tensor]
"""Images [N, C, H, W] in [−1, 1], and labels, which are not looked at."""


class GenerationTask(LightningModule):
    """Trains a generator of images as a generative adversarial network (Goodfellow et al. 2014), without labels.

    Each batch makes one step of the discriminator and one of the generator, on the same generated images. Validation,
    tests, samples and checkpoints use an exponential moving average of the generator's weights and of BatchNorm's
    statistics, made by Lightning's ``EMAWeightAveraging``; a checkpoint has those under ``network.…``.

    Logs ``train_generator_loss`` and ``train_discriminator_loss``, and ``val_frechet_distance`` and
    ``test_frechet_distance``. The latter is

        ‖μ − μ'‖² + tr(Σ + Σ' − 2 (ΣΣ')^{1/2})

    of means and covariances of features of all validation (test) images and of ``num_samples`` generated images. The
    features are what ``feature_network`` returns or, without one, the pixels themselves on a scale of 0 to 1: a
    generator that matches nothing but mean and covariance of the pixels would be at 0. It is not the Inception
    distance (FID) of published tables; only values with the same features and numbers of images compare. It is above 0
    also between two samples of one distribution, the more so the fewer they are. Of a single image there is none: it is
    left out, with a warning.

    Args:
        network: The generator, from latent vectors [N, …] to images [N, C, H, W] in [−1, 1].
        discriminator: From images to a score for each, [N], higher for real ones.
        latents: Where latent vectors come from; by default standard normal ones of the generator's ``latent_size``.
        weights: Weights that the generator starts from, a ``.safetensors`` file or a checkpoint of tensors.
        loss: ``hinge`` or ``non_saturating``.
        average_decay: Of the moving average, for each batch: w̄ ← d·w̄ + (1 − d)·w.
        optimizer: The generator's, given its parameters.
        discriminator_optimizer: The discriminator's, given its parameters.
        num_samples: Number of images generated in each validation or test.
        feature_network: From images in [−1, 1] to features [N, F], such as :func:`editable.models.feature_network`
            makes of a classifier; it is not trained.

    Raises:
        UserError: If a number is out of its range, the weights do not fit, latent vectors do not fit the generator, or
            its images do not fit the discriminator or the feature network; when training, if the data's pixels are not
            in [−1, 1], or of another shape than the generator's.
    """

    def __init__(
        self,
        network: nn.Module,
        discriminator: nn.Module,
        latents: LatentSampler | None = None,
        weights: str | None = None,
        loss: LossKind = "hinge",
        average_decay: float = 0.999,
        optimizer: OptimizerCallable = lambda params: torch.optim.Adam(params, lr=2e-4, betas=(0.0, 0.99)),
        discriminator_optimizer: OptimizerCallable = lambda params: torch.optim.Adam(
            params, lr=2e-4, betas=(0.0, 0.99)
        ),
        num_samples: int = 1000,
        feature_network: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        require_at_least(2, num_samples=num_samples)
        check_optimizer(optimizer)
        check_optimizer(discriminator_optimizer)
        require_within("[0, 1)", average_decay=average_decay)
        self.network, self.discriminator = network, discriminator
        self.latents = default_latents(network) if latents is None else latents
        self.loss, self.average_decay, self.num_samples = AdversarialLoss(loss), average_decay, num_samples
        self.optimizer, self.discriminator_optimizer = optimizer, discriminator_optimizer
        if weights is not None:
            load_weights(network, weights)
        self.image_shape = self._check_networks()
        features = nn.Flatten() if feature_network is None else feature_network.requires_grad_(False)
        self._scale = (0.5, 0.5) if feature_network is None else (1.0, 0.0)
        self.frechet_distance = self._make_distance(features)
        self._said_left_out = False
        self.samples: Tensor | None = None
        """First images of the last validation or test, [n, C, H, W] in [0, 1], n ≤ 64, always of the same latents."""

    def forward(self, latents: Tensor) -> Tensor:
        """Return images in [−1, 1], [N, C, H, W], for latent vectors [N, …]."""
        return self.network(latents)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Make one step of the discriminator and one of the generator."""
        real = batch[0]
        self._check_images(real, batch_idx)
        generator_optimizer, discriminator_optimizer = self.optimizers()  # type: ignore[attr-defined]
        # By the number of steps, so that a run that was interrupted goes on with the vectors that it would have had.
        seed = 1 + self.global_step * self.trainer.world_size + self.global_rank
        generated = self.network(self.latents(len(real), seed).to(real))

        self.toggle_optimizer(discriminator_optimizer)
        loss = self.loss.discriminator(self.discriminator(real), self.discriminator(generated.detach()))
        discriminator_optimizer.zero_grad()
        self.manual_backward(loss)
        discriminator_optimizer.step()
        self.untoggle_optimizer(discriminator_optimizer)

        generator_loss = self.loss.generator(self.discriminator(generated))
        generator_optimizer.zero_grad()
        self.manual_backward(generator_loss)
        generator_optimizer.step()
        for name, value in (("generator_loss", generator_loss), ("discriminator_loss", loss)):
            self.log(
                f"train_{name}", value.detach(), on_step=False, on_epoch=True, batch_size=len(real), sync_dist=True
            )

    # Samples are drawn at the beginning: at the end, Lightning has put the averaged weights away before it asks.

    def on_validation_epoch_start(self) -> None:
        """Generate images with the averaged weights."""
        self._generate()

    def on_test_epoch_start(self) -> None:
        """Generate images."""
        self._generate()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Look at a batch of real images."""
        self._look_at(batch[0], real=True)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Look at a batch of real images."""
        self._look_at(batch[0], real=True)

    def on_validation_epoch_end(self) -> None:
        """Log the distance between generated and validation images."""
        self._log_distance("val")

    def on_test_epoch_end(self) -> None:
        """Log the distance between generated and test images."""
        self._log_distance("test")

    def predict_step(self, batch: Batch, batch_idx: int) -> None:
        """Refuse: there is nothing to predict."""
        raise UserError("a generator predicts nothing of images: use test, which draws samples")

    def configure_optimizers(self) -> Any:
        """Return the generator's optimizer and the discriminator's."""
        pairs = (self.network, self.optimizer), (self.discriminator, self.discriminator_optimizer)
        return [
            optimizer(param for param in network.parameters() if param.requires_grad) for network, optimizer in pairs
        ]

    def configure_callbacks(self) -> list[Callback]:
        """Return what averages the weights while training."""
        fitting = self.trainer.state.fn == TrainerFn.FITTING
        return [EMAWeightAveraging(decay=self.average_decay)] if fitting else []

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another task or network, before anything of it is used."""
        check_fit(self, checkpoint["state_dict"], "the weights in the checkpoint")

    @torch.no_grad()
    def _check_networks(self) -> tuple[int, int, int]:
        """Run both networks once; return the shape of an image."""
        images = generate(self.network, self.latents(1, 0))
        try:
            with evaluation_mode(self.discriminator):
                scores = self.discriminator(images)
        except RuntimeError as error:
            raise UserError(
                f"the generator's images {list(images.shape[1:])} do not fit the discriminator ({_reason(error)}): "
                "give both the same image_size and channels"
            ) from error
        if scores.shape != (1,):
            raise UserError(f"a discriminator must return one score for each image, [1], got {list(scores.shape)}")
        channels, height, width = images.shape[1:]
        return channels, height, width

    def _make_distance(self, features: nn.Module) -> FrechetInceptionDistance:
        try:
            with evaluation_mode(features), torch.no_grad():
                return FrechetInceptionDistance(features, normalize=True, input_img_size=self.image_shape)
        except RuntimeError as error:
            raise UserError(
                f"the generator's images {list(self.image_shape)} do not fit the feature network ({_reason(error)})"
            ) from error

    def _check_images(self, images: Tensor, batch_idx: int) -> None:
        if tuple(images.shape[1:]) != self.image_shape:
            raise UserError(
                f"the data's images are {list(images.shape[1:])}, but the generator's {list(self.image_shape)}: set "
                "image_size and channels of both networks"
            )
        if batch_idx == 0 and float(images.abs().max()) > 1 + 1e-4:
            raise UserError(
                f"the generator's images lie in [-1, 1], but the data's in [{float(images.min()):.3g}, "
                f"{float(images.max()):.3g}]: set data.mean and data.std to 0.5 for each channel"
            )

    @torch.no_grad()
    def _generate(self) -> None:
        """Generate this rank's share of the samples."""
        self.frechet_distance.reset()
        ranks = self.trainer.world_size
        latents = self.latents(self.num_samples, 0)
        self.samples = (generate(self.network, latents[:64]) / 2 + 0.5).clamp(0, 1).cpu()
        for part in latents[self.global_rank :: ranks].split(250):
            self._look_at(generate(self.network, part), real=False)

    @torch.no_grad()
    def _look_at(self, images: Tensor, real: bool) -> None:
        factor, offset = self._scale
        with evaluation_mode(self.frechet_distance):
            self.frechet_distance.update(images * factor + offset, real=real)

    def _log_distance(self, stage: str) -> None:
        number = self.frechet_distance.real_features_num_samples.clone()
        if self.trainer.strategy.reduce(number, reduce_op="sum") < 2:
            self._leave_out(stage)
        else:
            distance = self.frechet_distance.compute()  # over all ranks
            self.log(f"{stage}_frechet_distance", distance, prog_bar=True)
        self.frechet_distance.reset()

    def _leave_out(self, stage: str) -> None:
        """Say once that there is no distance; a sanity check may look at fewer images than there are."""
        if not (self._said_left_out or self.trainer.sanity_checking):
            rank_zero_warn(
                f"{stage}_frechet_distance is left out: it needs the covariance of two images at least, and one was "
                "looked at"
            )
            self._said_left_out = True


def _trainable(network: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def _reason(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
