"""The baseline task: a classifier trained with cross-entropy."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassAccuracy

from editable.data.classes import check_same_classes
from editable.errors import UserError, require_not_negative, require_within
from editable.models import check_fit, check_weights, class_names_of, lay_out_channels_last, load_weights, logits_of
from editable.models.logits import require_logits, require_num_classes, say_what_is_taken
from editable.tasks.mixed_images import MixedImages
from editable.tasks.optimizers import check_optimizer

__all__ = ["ClassificationTask"]

CLASSES = "classes"
"""The entry of a checkpoint that has the names of the classes, by label."""

NORMALISATION = (
    nn.modules.batchnorm._BatchNorm,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.modules.instancenorm._InstanceNorm,
    nn.LocalResponseNorm,
)
"""Layers whose parameters ``norm_weight_decay`` is for: torchvision's list."""

Batch = tuple[Tensor, Tensor]
"""Images [N, C, H, W] and labels, int64 [N]."""


class ClassificationTask(LightningModule):
    """Trains and evaluates a classifier with cross-entropy.

    Logs ``train_loss``, ``train_error``, ``val_loss``, ``val_error``, ``test_loss`` and ``test_error``; errors are
    fractions. ``predict`` returns probabilities, [N, classes].

    Args:
        network: The classifier, any module from images [N, C, H, W] to logits [N, classes], by its class, or by a
            function that makes one: ``editable.models.cifar_resnet18``, ``editable.models.torchvision_model``. Where it
            returns a tuple, dict or object, its logits are taken: see :func:`editable.models.logits_of`.
        weights: Weights that the network starts from, a ``.safetensors`` file or a checkpoint of tensors.
        channels_last: Lay out weights, and with them activations, with their channels last; a network that torch cannot
            train so stays contiguous, with a warning, see `editable.models.lay_out_channels_last`.
        optimizer: The optimizer, given its parameters.
        lr_scheduler: The learning-rate scheduler, given the optimizer; none keeps the rate.
        lr_scheduler_interval: Whether the scheduler advances every ``epoch`` or every training ``step``.
        label_smoothing: Part of each training label that is shared out among all classes, in [0, 1).
        mixup_alpha: Train on mixtures of two images, see :class:`~editable.tasks.mixed_images.MixedImages`; at 0 there
            are none. ``train_error`` is then that of the class that has most of a mixture.
        cutmix_alpha: Likewise, on images with a rectangle of another one.
        norm_weight_decay: Weight decay of the parameters of normalisation layers; by default that of all.

    Raises:
        UserError: If the weights cannot be read or belong to another architecture, a number is out of its range, or
            torch refuses one of the optimizer or the scheduler.
    """

    def __init__(
        self,
        network: nn.Module,
        weights: str | None = None,
        channels_last: bool = False,
        optimizer: OptimizerCallable = lambda params: torch.optim.Adam(params, lr=1e-3),
        lr_scheduler: LRSchedulerCallable | None = None,
        lr_scheduler_interval: Literal["epoch", "step"] = "epoch",
        label_smoothing: float = 0.0,
        mixup_alpha: float = 0.0,
        cutmix_alpha: float = 0.0,
        norm_weight_decay: float | None = None,
    ) -> None:
        super().__init__()
        require_within("[0, 1)", label_smoothing=label_smoothing)
        if norm_weight_decay is not None:
            require_not_negative(norm_weight_decay=norm_weight_decay)
        check_optimizer(optimizer, lr_scheduler)
        self.network = network
        self._has_said = False  # which part of its output is taken
        self._span: list[int] | None = None  # the lowest and highest label of a batch that is moved to a device
        self.weights = weights
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.lr_scheduler_interval = lr_scheduler_interval
        self.label_smoothing = label_smoothing
        self.mix = MixedImages(mixup_alpha, cutmix_alpha)
        self.norm_weight_decay = norm_weight_decay
        if weights is not None:
            load_weights(network, weights)
        if channels_last:
            lay_out_channels_last(network)
        self.val_loss, self.test_loss = MeanMetric(), MeanMetric()
        self.val_error = 1 - MulticlassAccuracy(average="micro")
        self.test_error = 1 - MulticlassAccuracy(average="micro")

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [N, classes] for images [N, C, H, W]."""
        output = self.network(images)
        if not self._has_said:
            say_what_is_taken(self.network, output)
            self._has_said = True
        return logits_of(output)

    def setup(self, stage: str) -> None:
        """Say where the network has other names for the classes than the data have."""
        names, classes = class_names_of(self.network), self._class_names()
        if names is None or classes is None:
            return
        try:
            check_same_classes(names, classes, "the network", "see whether both mean the same, or give data.classes")
        except UserError as error:
            rank_zero_warn(str(error))

    def on_test_start(self) -> None:
        """Refuse weights that are NaN or infinite."""
        check_weights(self.network)

    def on_predict_start(self) -> None:
        """Refuse weights that are NaN or infinite."""
        check_weights(self.network)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Note the range of the labels while they are on the CPU; see :meth:`check_labels`."""
        labels = batch[1] if isinstance(batch, tuple | list) and len(batch) == 2 else None
        self._span = None
        if isinstance(labels, Tensor) and labels.device.type == "cpu" and labels.dtype == torch.int64 and len(labels):
            self._span = torch.stack(labels.aminmax()).tolist()
        return batch

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one batch."""
        images, labels = batch
        parts = None
        if self.mix:
            images, parts = self.mix(images)
        logits = self.forward(images)
        self.check_labels(logits, labels, batch_idx)
        targets = labels
        if parts is not None:
            targets = self.mix.targets(parts, labels, logits.shape[-1])
            labels = targets.argmax(dim=-1)
        loss = functional.cross_entropy(logits, targets, label_smoothing=self.label_smoothing)
        self.log_training({"loss": loss, "error": (logits.argmax(dim=-1) != labels).float().mean()}, len(images))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log loss and error of one batch."""
        self._evaluation_step("val", self.val_loss, self.val_error, batch, batch_idx)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Log loss and error of one batch."""
        self._evaluation_step("test", self.test_loss, self.test_error, batch, batch_idx)

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return probabilities [N, classes]."""
        logits = self.forward(batch[0])
        require_logits(logits, len(batch[0]))
        self._check_num_classes(logits.shape[-1])
        return logits.softmax(dim=-1)

    def configure_optimizers(self) -> Any:
        """Return the optimizer and, where there is one, the scheduler."""
        optimizer = self.optimizer(self.parameter_groups())
        if self.lr_scheduler is None:
            return {"optimizer": optimizer}
        scheduler = self.lr_scheduler(optimizer)
        monitor = getattr(scheduler, "monitor", "val_loss")  # what Lightning's ReduceLROnPlateau looks at
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": self.lr_scheduler_interval, "monitor": monitor},
        }

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the parameters to be trained, in the groups that the optimizer is to have."""
        params = [param for param in self.network.parameters() if param.requires_grad]
        if self.norm_weight_decay is None:
            return [{"params": params}]
        layers = [module for module in self.network.modules() if isinstance(module, NORMALISATION)]
        of_norms = {id(param) for module in layers for param in module.parameters(recurse=False)}
        norms = [param for param in params if id(param) in of_norms]
        others = [param for param in params if id(param) not in of_norms]
        groups: list[dict[str, Any]] = [{"params": others}, {"params": norms, "weight_decay": self.norm_weight_decay}]
        return [group for group in groups if group["params"]]

    def log_training(self, values: dict[str, Tensor], num_images: int) -> None:
        """Log values of a training batch: ``train_…_step`` of this rank, and ``train_…`` over all ranks and the epoch.

        Only the epoch's values are reduced over ranks, which would cost a message for each value in every step.
        """
        for name, value in values.items():
            self.log(f"train_{name}_step", value.detach(), prog_bar=name == "loss")
            self.log(
                f"train_{name}", value.detach(), on_step=False, on_epoch=True, batch_size=num_images, sync_dist=True
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write down the names of the classes, where the data module has some."""
        classes = self._class_names()
        if classes is not None:
            checkpoint[CLASSES] = list(classes)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another task, network or classes, before anything of it is used."""
        check_fit(self, checkpoint["state_dict"], "the weights in the checkpoint")
        classes = self._class_names()
        if CLASSES in checkpoint and classes is not None:
            otherwise = "give data with the same classes, or the checkpoint as model.weights, which takes weights alone"
            check_same_classes(checkpoint[CLASSES], classes, "the checkpoint", otherwise)

    def _class_names(self) -> Sequence[str] | None:
        return getattr(getattr(self._trainer, "datamodule", None), "classes", None)

    def check_labels(self, logits: Tensor, labels: Tensor, batch_idx: int) -> None:
        """Raise a ``UserError`` unless data and network agree on the classes; logits are [N, classes].

        A look at labels on an accelerator waits for it, so they are looked at before they are moved there. Of labels
        that were made there, training looks at the first batch of an epoch only.
        """
        require_logits(logits, len(labels))
        num_classes = logits.shape[-1]
        self._check_num_classes(num_classes)
        on_cpu = labels.device.type == "cpu"
        if on_cpu or self._span is not None or batch_idx == 0 or not self.training:
            span = None if on_cpu else self._span
            lowest, highest = span or torch.stack(labels.aminmax()).tolist()
            if lowest < 0 or highest >= num_classes:
                raise UserError(
                    f"the data have label {lowest if lowest < 0 else highest}, but the network's {num_classes} classes "
                    f"are 0 … {num_classes - 1}"
                )

    def _check_num_classes(self, num_classes: int) -> None:
        """Compare the number of logits with the number of classes that the data module, where there is one, names."""
        expected = getattr(getattr(self._trainer, "datamodule", None), "num_classes", num_classes)
        require_num_classes(num_classes, expected)

    def _evaluation_step(self, stage: str, loss: Metric, error: Metric, batch: Batch, batch_idx: int) -> None:
        images, labels = batch
        logits = self.forward(images)
        self.check_labels(logits, labels, batch_idx)
        loss.update(functional.cross_entropy(logits, labels), weight=len(images))
        error.update(logits.argmax(dim=-1), labels)
        self.log(f"{stage}_loss", loss)
        self.log(f"{stage}_error", error, prog_bar=stage == "val")
