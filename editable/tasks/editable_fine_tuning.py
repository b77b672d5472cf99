"""Editable fine-tuning: a trained classifier learns to be edited, while it is held to what it was."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from lightning.pytorch.callbacks import StochasticWeightAveraging
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional

from editable.editing import BaseEditor
from editable.errors import UserError, require_choice, require_not_negative, require_positive
from editable.models import Features, SplitNetwork, fingerprint, logits_of, select_parameters
from editable.tasks.classification import Batch
from editable.tasks.editable_training import EditableTrainingTask, LocalityShare

__all__ = ["EditableFineTuningTask"]

TEACHER = "teacher_fingerprint"

Statistics = Literal["batch", "running"]
"""Of BatchNorm in the base term."""


class EditableFineTuningTask(EditableTrainingTask):
    """Editable training of a network that is trained already, with distillation in place of labels, or beside them.

    L_base = KL(p(·|x, original network) ‖ p(·|x, network)), mean over the batch (Sinitsin et al., ICLR 2020). With
    ``c_labels`` the cross-entropy is added, so that a network that could be better becomes so meanwhile (distillation
    with labels: Hinton et al., 2015). The original is the network as it is when the task is made, so give its weights
    here or to the network. It stays as it was, in evaluation mode, sees the same augmented images, and is not part of
    checkpoints: a resumed run makes it again, and is refused if it would be another one. With ``c_edit = c_loc = 0``
    this is distillation alone. Logs what :class:`EditableTrainingTask` does.

    Args:
        network: The trained classifier, such as ``editable.models.add_extra_layer`` makes of it.
        c_labels: Weight of the cross-entropy in L_base; at 0 (published) labels serve only to log errors.
        learning_rates: The optimizer's learning rates for some parameters, by name pattern as in ``editable_layers``:
            ``{extra_layer: 1.0e-3}``. The last pattern that matches counts; all other parameters have the optimizer's.
        trainable_layers: Which parameters are trained, by name pattern; by default all.
        statistics: Of BatchNorm in the base term: of the ``batch`` (published), or the ``running`` ones of the
            original, which then stay as they are, so that ``StochasticWeightAveraging`` is refused. With these, and no
            trainable parameter before the editable ones, everything up to there is computed once for the original, the
            network and the edited network.
        weights: Weights of the original, a ``.safetensors`` file or a checkpoint of tensors.

    Further arguments: see :class:`EditableTrainingTask` and :class:`ClassificationTask`.

    Raises:
        UserError: If a value is out of its range, the weights cannot be read, or a pattern matches no parameter or, of
            a learning rate, none that is trained.
    """

    def __init__(
        self,
        network: nn.Module,
        editor: BaseEditor,
        editable_layers: Sequence[str],
        c_edit: float = 0.03,
        c_loc: float = 0.03,
        c_labels: float = 0.0,
        edits_per_batch: int = 1,
        locality_fraction: float = 1.0,
        locality_share: LocalityShare = "whole",
        detach_base: bool = True,
        edit_seed: int = 0,
        learning_rates: Mapping[str, float] | None = None,
        editor_learning_rate: float | None = None,
        trainable_layers: Sequence[str] = ("all",),
        statistics: Statistics = "batch",
        weights: str | None = None,
        channels_last: bool = False,
        optimizer: OptimizerCallable = lambda params: torch.optim.SGD(params, lr=1e-5, momentum=0.9, weight_decay=1e-4),
        lr_scheduler: LRSchedulerCallable | None = None,
        lr_scheduler_interval: Literal["epoch", "step"] = "epoch",
    ) -> None:
        super().__init__(
            network,
            editor,
            editable_layers,
            c_edit,
            c_loc,
            edits_per_batch,
            locality_fraction,
            locality_share,
            detach_base,
            edit_seed,
            editor_learning_rate,
            weights=weights,
            channels_last=channels_last,
            optimizer=optimizer,
            lr_scheduler=lr_scheduler,
            lr_scheduler_interval=lr_scheduler_interval,
        )
        require_not_negative(c_labels=c_labels)
        require_choice(Statistics, statistics=statistics)
        self.c_labels = c_labels
        self.learning_rates = dict(learning_rates or {})
        trainable = select_parameters(network, trainable_layers)
        for pattern, rate in self.learning_rates.items():
            require_positive(**{f"learning_rates.{pattern}": rate})
            if not trainable.keys() & select_parameters(network, pattern).keys():
                raise UserError(
                    f"learning_rates has a rate for '{pattern}', of which trainable_layers trains nothing: name it "
                    "there, or leave the rate out"
                )
        for name, param in network.named_parameters():
            param.requires_grad_(name in trainable)
        self.statistics = statistics
        self._teacher = SplitNetwork(copy.deepcopy(network).eval().requires_grad_(False), self.editable_layers)
        self._resumed_teacher: str | None = None

    @property
    def teacher(self) -> nn.Module:
        """The original network."""
        return self._teacher.network

    def on_fit_start(self) -> None:
        """Move the original to the device of the network.

        Raises:
            UserError: If the run that is resumed had another original, ``StochasticWeightAveraging`` would make
                statistics anew that are to stay, or as in :class:`EditableTrainingTask`.
        """
        super().on_fit_start()
        self._check_averaging()
        if self._resumed_teacher not in (None, fingerprint(self.teacher.state_dict())):
            raise UserError(
                "the checkpoint belongs to the fine-tuning of another network than this one: resume it with the "
                "weights that it started from"
            )
        self.teacher.to(self.device, next(self.network.parameters()).dtype)

    def _check_averaging(self) -> None:
        callbacks = self.trainer.callbacks  # type: ignore[attr-defined]
        averages = [some for some in callbacks if isinstance(some, StochasticWeightAveraging)]
        if self.statistics == "running" and averages and averages[0].pl_module_contains_batch_norm(self):
            raise UserError(
                f"statistics=running keeps BatchNorm's statistics as they are, but {type(averages[0]).__name__} sets "
                "them to 0 and 1, for an epoch on batch statistics to make them anew: take EMAWeightAveraging, or "
                "statistics=batch"
            )

    def unedited_pass(self, images: Tensor) -> tuple[Tensor, Features]:
        """Run the unedited network, with the statistics asked for, and its prefix with running statistics."""
        if self.statistics == "batch":
            return super().unedited_pass(images)
        features = self.split.edit_prefix(images)
        return self.split.edit_suffix(features, {}), features

    def base_loss(self, logits: Tensor, features: Features, batch: Batch) -> Tensor:
        """Return L_base, the divergence from the original's predictions, and as much of the cross-entropy as asked for.

        Arguments as of :meth:`loss_terms`.
        """
        shares_prefix = self.statistics == "running" and not any(feature.requires_grad for feature in features)
        with torch.no_grad():
            original = self._teacher.edit_suffix(features, {}) if shares_prefix else logits_of(self.teacher(batch[0]))
        divergence = functional.kl_div(
            functional.log_softmax(logits, dim=-1),
            functional.log_softmax(original, dim=-1),
            reduction="batchmean",
            log_target=True,
        )
        return divergence + self.c_labels * functional.cross_entropy(logits, batch[1]) if self.c_labels else divergence

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the trained parameters by their learning rate, and the editor's constants."""
        rates: dict[str, float] = {}
        for pattern, rate in self.learning_rates.items():
            rates |= dict.fromkeys(select_parameters(self.network, pattern), rate)
        groups: dict[float | None, list[nn.Parameter]] = {}
        for name, param in self.network.named_parameters():
            if param.requires_grad:
                groups.setdefault(rates.get(name), []).append(param)
        _, *rest = super().parameter_groups()
        return [{"params": params, **({} if rate is None else {"lr": rate})} for rate, params in groups.items()] + rest

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write down the classes, and which original the network was held to."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[TEACHER] = fingerprint(self.teacher.state_dict())

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another task or network, and remember which original it had."""
        super().on_load_checkpoint(checkpoint)
        self._resumed_teacher = checkpoint.get(TEACHER)
