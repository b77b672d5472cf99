"""Editable training: a classifier that learns its task and, at the same time, to be edited."""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from torch import Tensor, nn
from torch.nn import functional

from editable.data.edits.edit_streams import Edits, random_training_edits
from editable.editing import BaseEditor, EditResult, kl_locality
from editable.errors import (
    UserError,
    require_at_least,
    require_choice,
    require_not_negative,
    require_positive,
    require_seed,
    require_within,
)
from editable.models import Features, SplitNetwork, select_parameters
from editable.models.machine.devices import to_device
from editable.tasks.classification import Batch, ClassificationTask
from editable.tasks.edits_in_parts import EditsInParts

__all__ = ["EditableTrainingTask", "LocalityShare", "LossTerms"]

LocalityShare = Literal["whole", "own"]
"""On which images each of several edits is held to locality: on all that it is measured on, or on a part of its own."""


class LossTerms(NamedTuple):
    """The loss of a batch, its three terms before they are weighted, and the edits made for it, where any are made.

    Where these are several, the loss alone has a graph, and the result leaves the edited parameters out.
    """

    loss: Tensor
    base: Tensor
    edit: Tensor
    locality: Tensor
    result: EditResult | None


class EditableTrainingTask(ClassificationTask):
    """Editable training, L = L_base + c_edit·L_edit + c_loc·L_loc (Sinitsin et al., ICLR 2020).

    In each batch the network is edited out of place: a training image shall get a random label. L_edit is the edit
    objective after the edit, L_loc how far the edited network's predictions on the batch are from the unedited ones;
    both are differentiated through all steps of the edit. The base term sees batch statistics, the edit and the edited
    network running statistics. Logs what :class:`ClassificationTask` does, and ``train_loss_base``,
    ``train_loss_edit``, ``train_loss_locality``, ``train_success_rate``, ``train_num_steps``, and the editor's
    learnt constants as ``editor_…``. With ``c_edit = c_loc = 0`` training makes no edits; they are still evaluated.

    Under data parallelism each rank makes its own edits and measures them on its own share of the batch. R ranks with
    E edits each train as one process with R·E edits and ``locality_share=own`` on the whole batch does.

    Args:
        editor: Makes the edits, in training and in evaluation; its learnable constants are trained with the network.
        editable_layers: Which parameters an edit may change: names of layers, or patterns such as ``layer4.1.*``,
            or ``all``. ``layer3`` of a ResNet-18 is "Chain 3" of the paper.
        c_edit: Weight of the edit term.
        c_loc: Weight of the locality term.
        edits_per_batch: Number of edits for each batch (on each rank), made at once from the same parameters; where
            the device runs out of memory, half as many at once from then on, with the same gradients up to rounding.
        locality_fraction: Make the edits among, and measure locality on, this part of each batch, in (0, 1]. The rest
            sees the base term alone.
        locality_share: Measure locality on the ``whole`` of that part for each of the E edits, or for each on its
            ``own`` 1/E of it.
        detach_base: Let no gradient of the locality term flow into the unedited network's probabilities (published).
        edit_seed: Seed of the training edits.
        editor_learning_rate: The optimizer's learning rate for the editor's learnable constants, log α and logit β;
            by default that of the network.
        first_edit_epoch: Epoch, counted from 0, in which edits begin; before it the loss is the base term alone.

    Further arguments: see :class:`ClassificationTask`.

    Raises:
        UserError: If a value is out of its range, the weights cannot be read, or a pattern matches no parameter.
    """

    def __init__(
        self,
        network: nn.Module,
        editor: BaseEditor,
        editable_layers: Sequence[str],
        c_edit: float = 0.01,
        c_loc: float = 0.01,
        edits_per_batch: int = 1,
        locality_fraction: float = 1.0,
        locality_share: LocalityShare = "whole",
        detach_base: bool = True,
        edit_seed: int = 0,
        editor_learning_rate: float | None = None,
        first_edit_epoch: int = 0,
        weights: str | None = None,
        channels_last: bool = False,
        optimizer: OptimizerCallable = lambda params: torch.optim.Adam(params, lr=1e-3),
        lr_scheduler: LRSchedulerCallable | None = None,
        lr_scheduler_interval: Literal["epoch", "step"] = "epoch",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(
            network, weights, channels_last, optimizer, lr_scheduler, lr_scheduler_interval, label_smoothing
        )
        require_not_negative(c_edit=c_edit, c_loc=c_loc)
        require_at_least(1, edits_per_batch=edits_per_batch)
        require_at_least(0, first_edit_epoch=first_edit_epoch)
        require_within("(0, 1]", locality_fraction=locality_fraction)
        require_choice(LocalityShare, locality_share=locality_share)
        require_seed(edit_seed=edit_seed)
        require_positive(editor_learning_rate=editor_learning_rate)
        self.editor = editor
        self.editable_layers = list(editable_layers)
        self.c_edit = c_edit
        self.c_loc = c_loc
        self.edits_per_batch = edits_per_batch
        self.locality_fraction = locality_fraction
        self.locality_share = locality_share
        self.detach_base = detach_base
        self.edit_seed = edit_seed
        self.editor_learning_rate = editor_learning_rate
        self.first_edit_epoch = first_edit_epoch
        self._split: SplitNetwork | None = None
        self._parts = EditsInParts(edits_per_batch)
        names = select_parameters(network, self.editable_layers)
        editor.prepare({name: network.get_parameter(name) for name in names})
        if not c_edit + c_loc:
            editor.requires_grad_(False)  # no gradient will reach its constants

    @property
    def split(self) -> SplitNetwork:
        """The network, split at its first editable parameter when a fit starts, or else when first asked for."""
        if self._split is None:
            self._split = SplitNetwork(self.network, self.editable_layers)
        return self._split

    def on_fit_start(self) -> None:
        """Split the network, whose layers the strategy may have replaced; refuse what cannot be differentiated twice.

        Raises:
            UserError: If the strategy shards parameters, or the task or its network is compiled.
        """
        if isinstance(self.trainer.strategy, FSDPStrategy | ModelParallelStrategy | DeepSpeedStrategy):
            raise UserError(
                f"editable training differentiates twice through the edited layers, which "
                f"{type(self.trainer.strategy).__name__} does not support as it shards parameters; use strategy=ddp"
            )
        if self._compiler_ctx is not None:
            raise UserError(
                "editable training differentiates twice through the edited layers, which torch.compile does not "
                "support; train the task as it is, without torch.compile"
            )
        self._split = SplitNetwork(self.network, self.editable_layers)

    @property
    def makes_edits(self) -> bool:
        """Whether the loss of this epoch has an edit or a locality term."""
        return self.c_edit + self.c_loc > 0 and self.current_epoch >= self.first_edit_epoch

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one batch."""
        images, labels = batch
        logits, features = self.unedited_pass(images)
        self.check_labels(logits, labels, batch_idx)
        edits = self.draw_edits(len(images), logits.shape[-1], batch_idx)
        terms = self.loss_terms(logits, features, batch, edits)
        values = {
            "loss": terms.loss,
            "error": (logits.argmax(dim=-1) != labels).float().mean(),
            "loss_base": terms.base,
        }
        if terms.result is not None:
            values |= {
                "loss_edit": terms.edit,
                "loss_locality": terms.locality,
                "success_rate": terms.result.success.float().mean(),
                "num_steps": terms.result.num_steps.float().mean(),
            }
        self.log_training(values, len(images))
        return terms.loss

    def unedited_pass(self, images: Tensor) -> tuple[Tensor, Features]:
        """Run the unedited network with batch statistics, and its prefix with running statistics.

        Returns:
            Logits [N, classes], and the prefix features of at least those images that the edits and the locality term
            look at, the first ones of the batch.
        """
        shared = self._num_shared(len(images)) if self.makes_edits else 0
        return self.forward(images), self.split.edit_prefix(images[:shared]) if shared else ()

    def loss_terms(self, logits: Tensor, features: Features, batch: Batch, edits: Edits) -> LossTerms:
        """Return L = L_base + c_edit·L_edit + c_loc·L_loc and its terms.

        Args:
            logits: The unedited network's, [N, classes].
            features: What :meth:`unedited_pass` returned with them.
            batch: Images [N, C, H, W] and labels [N].
            edits: Which of the images get which label.
        """
        base = self.base_loss(logits, features, batch)
        loss = base
        # Where no edit takes a step, the editor's constants must still be part of the graph: DDP waits for them. Each
        # has a zero of its own, for scalars under one sum would get gradients that share memory.
        for param in self.editor.parameters():
            if param.requires_grad:
                loss = loss + 0.0 * param.sum()
        if not self.makes_edits:
            return LossTerms(loss, base, torch.zeros_like(base), torch.zeros_like(base), None)
        shared = self._num_shared(len(logits))
        features = tuple(feature[:shared] for feature in features)
        if len(edits.labels) > 1:
            return self._several(loss, base, logits[:shared], features, edits)
        result = self.edit(features, edits)
        edit, locality = result.loss.mean(), self.locality(logits[:shared], features, result)
        loss = loss + self.c_edit * edit + self.c_loc * locality
        return LossTerms(loss, base, edit, locality, result)

    def _several(self, loss: Tensor, base: Tensor, logits: Tensor, features: Features, edits: Edits) -> LossTerms:
        """Return the terms of several edits, as many of them at once as there is memory for."""
        number = len(edits.labels)

        def work(part: slice, inputs: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, EditResult]]:
            logits, *features = inputs
            some = Edits(edits.indices[part], edits.labels[part])
            result = self.edit(tuple(features), some)
            share = len(some.labels) / number
            edit = share * result.loss.mean()
            locality = share * self.locality(logits, tuple(features), result, part.start, number)
            figures = (locality.detach(), result._replace(params={}, loss=result.loss.detach()))
            return self.c_edit * edit + self.c_loc * locality, figures

        leaves = [param for param in self.parameters() if param.requires_grad]
        value, figures = self._parts.sum(work, number, (logits, *features), leaves)
        localities, results = zip(*figures, strict=True)
        fields = (torch.cat(field) for field in zip(*(some[1:] for some in results), strict=True))
        result = EditResult({}, *fields)
        return LossTerms(loss + value, base, result.loss.mean(), torch.stack(localities).sum(), result)

    def on_train_epoch_end(self) -> None:
        """Log the editor's learnt constants: those of an update rule that are tensors."""
        rule = getattr(self.editor, "rule", None)
        constants = {name: getattr(rule, name, None) for name in ("learning_rate", "decay")}
        learnt = {f"editor_{name}": value for name, value in constants.items() if isinstance(value, Tensor)}
        self.log_dict(learnt, sync_dist=True)

    def base_loss(self, logits: Tensor, features: Features, batch: Batch) -> Tensor:
        """Return L_base, here the cross-entropy; the arguments are those of :meth:`loss_terms`."""
        return functional.cross_entropy(logits, batch[1], label_smoothing=self.label_smoothing)

    def draw_edits(self, batch_size: int, num_classes: int, batch_idx: int) -> Edits:
        """Draw the edits of a batch: which of its images, among those that locality is measured on, and their labels.

        The draw depends on the seed, epoch, batch and rank alone, so that a resumed run draws as it would have. It
        lies on the CPU, where labels are looked at without waiting for a device.
        """
        seed = np.random.SeedSequence((self.edit_seed, self.current_epoch, batch_idx, self.global_rank))
        generator = torch.Generator().manual_seed(seed.generate_state(1, np.uint64).item() >> 1)
        shared = self._num_shared(batch_size)
        edits = random_training_edits(shared, num_classes, self.edits_per_batch, generator)
        return Edits(edits.indices, edits.labels)

    def _num_shared(self, batch_size: int) -> int:
        """Return how many images of a batch the edit and locality terms look at: its first ones."""
        return min(batch_size, max(self.edits_per_batch, math.ceil(self.locality_fraction * batch_size)))

    def edit(self, features: Features, edits: Edits) -> EditResult:
        """Make the edits of a batch from its prefix features, differentiably; see :meth:`Editor.edit_many`."""
        chosen = to_device(edits.indices, self.device)
        samples = tuple(feature.index_select(0, chosen).unsqueeze(1) for feature in features)
        return self.editor.edit_many(
            self.split.unrolled_suffix(), self.split.params, samples, edits.labels.unsqueeze(1), differentiable=True
        )

    def locality(
        self, logits: Tensor, features: Features, result: EditResult, first: int = 0, number: int | None = None
    ) -> Tensor:
        """Return L_loc, the mean over edits of how far each moves the predictions on its images.

        Args:
            logits: The unedited network's, [N, classes].
            features: Prefix features of the batch, N samples each.
            result: The E edits, or some of them.
            first: Number of the first of these among all.
            number: E; by default, ``result`` has all edits.
        """
        num_edits = number or len(result.success)
        shared_out = len(logits) - len(logits) % num_edits  # a remainder is left out
        edited = {name: stacked.unbind() for name, stacked in result.params.items()}
        terms = []
        for edit in range(len(result.success)):
            rows = slice(first + edit, shared_out, num_edits) if self.locality_share == "own" else slice(None)
            params = {name: values[edit] for name, values in edited.items()}
            edited_logits = self.split.edit_suffix(tuple(feature[rows] for feature in features), params)
            terms.append(kl_locality(logits[rows], edited_logits, self.detach_base))
        return torch.stack(terms).mean()

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the network's parameters and, in a group without weight decay, the editor's constants."""
        groups = super().parameter_groups()
        constants = [param for param in self.editor.parameters() if param.requires_grad]
        if not constants:
            return groups
        rate = {} if self.editor_learning_rate is None else {"lr": self.editor_learning_rate}
        return [*groups, {"params": constants, "weight_decay": 0.0, **rate}]
