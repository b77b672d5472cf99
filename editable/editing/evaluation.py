"""Judging edits on a data set: each edit starts from the base network, each edited network sees the same images."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from editable.editing.base import BaseEditor
from editable.editing.result import EditResult
from editable.errors import UserError, require_at_least
from editable.models import Features, SplitNetwork

__all__ = ["BasePredictions", "EditEvaluator", "EditOutcomes"]

GIB = 2**30


class BasePredictions(NamedTuple):
    """What the unedited network predicts on a data set of N images.

    Attributes:
        labels: True labels, int64 [N], on the CPU.
        predictions: Predicted labels, int64 [N], on the CPU.
        num_classes: Number of logits.
    """

    labels: Tensor
    predictions: Tensor
    num_classes: int


class EditOutcomes(NamedTuple):
    """What became of each edit; all fields have shape [E] and lie on the CPU.

    Attributes:
        success: Whether the edit objective reached ≤ 0, bool.
        num_steps: Number of updates made, int64.
        errors_after: Number of misclassified scoring images after the edit, int64.
    """

    success: Tensor
    num_steps: Tensor
    errors_after: Tensor


class EditEvaluator:
    """Makes edits and counts the errors of each edited network on the scoring images.

    Every edit starts from the base network. Prefix features of the scoring images are computed once and kept where
    they fit into half of the memory budget, else computed again for each group of edits, which is as large as the rest
    of the budget allows. Everything runs in float32 (or the network's own
    precision) with running statistics; the network is not changed.

    Args:
        split: The network, split at its first editable parameter.
        editor: Makes the edits.
        batches: Batches (images [N, C, H, W], labels [N]) of the data set, the same in the same order each time.
        device: Where the network lives.
        image_stride: Score on images 0, s, 2s, … of the data set (the published ImageNet protocol takes every tenth).
        edits_at_once: Number of edits computed together by the editor, fewer where the memory budget does not hold
            them; 1 repeats a loop over single edits bit for bit.
        memory_budget: In GiB, for kept features and edited parameters together.

    Raises:
        UserError: If a number is out of its range.
    """

    def __init__(
        self,
        split: SplitNetwork,
        editor: BaseEditor,
        batches: Iterable[tuple[Tensor, Tensor]],
        device: torch.device,
        image_stride: int = 1,
        edits_at_once: int = 8,
        memory_budget: float = 4.0,
    ) -> None:
        require_at_least(1, image_stride=image_stride, edits_at_once=edits_at_once)
        if not memory_budget > 0:
            raise UserError(f"memory_budget, in GiB, must be positive, got {memory_budget}")
        self.split, self.editor, self.batches, self.device = split, editor, batches, device
        self.image_stride, self.edits_at_once = image_stride, edits_at_once
        self._budget = int(memory_budget * GIB)
        self._params = {name: param.detach() for name, param in split.params.items()}
        self._features: list[tuple[Features, Tensor]] | None = None
        self.num_images = 0
        self.errors_before = 0

    @torch.no_grad()
    def measure_base(self, progress: Callable[[int], object] = lambda images: None) -> BasePredictions:
        """Run the base network over the whole data set once; to be called before :meth:`score`.

        Sets ``num_images``, the number of scoring images, and ``errors_before``, how many of them the base network
        gets wrong, and keeps the prefix features of the scoring images where they fit.

        Args:
            progress: Called with the number of images done since the last call.
        """
        labels: list[Tensor] = []
        predictions: list[Tensor] = []
        position, num_classes, kept = 0, 0, _Kept(self._budget // 2)
        for images, targets in self.batches:
            features = self._prefix(images)
            logits = self.split.suffix(features, self._params)
            scoring = self._scoring_part(position)
            kept.add(tuple(feature[scoring] for feature in features), targets[scoring].to(self.device))
            labels.append(targets)
            predictions.append(logits.argmax(dim=-1).cpu())
            position += len(targets)
            num_classes = logits.shape[-1]
            progress(len(images))
        base = BasePredictions(torch.cat(labels), torch.cat(predictions), num_classes)
        wrong = (base.labels != base.predictions)[:: self.image_stride]
        self.num_images, self.errors_before = len(wrong), int(wrong.sum())
        self._features = kept.batches(max(len(targets) for targets in labels))
        return base

    @property
    def keeps_features(self) -> bool:
        """Whether the features of the scoring images are kept."""
        return self._features is not None

    def score(
        self,
        dataset: Dataset,
        indices: Tensor,
        labels: Tensor,
        progress: Callable[[float], object] = lambda edits: None,
    ) -> EditOutcomes:
        """Make E edits and count the errors of each edited network.

        Args:
            dataset: Its items begin with an image [C, H, W].
            indices: Positions of the edited inputs in it, int64 [E].
            labels: The labels asked for, int64 [E].
            progress: Called with the number of edits done since the last call, a fraction at a time.

        Raises:
            UserError: If the base network was not measured first.
        """
        if not self.num_images:
            raise UserError("edits are scored against the base network: call measure_base before score")
        outcomes = [EditOutcomes(torch.zeros(0, dtype=torch.bool), *torch.zeros(2, 0, dtype=torch.int64))]
        for group in torch.arange(len(indices)).split(self._group_size) if len(indices) else ():
            edited, success, num_steps = self._edit_group(dataset, indices[group], labels[group])
            errors_after = torch.full_like(num_steps, self.errors_before)
            changed = num_steps.nonzero().flatten().tolist()  # an edit of 0 steps leaves the base network as it is
            progress(len(group) - len(changed))
            errors_after[changed] = self._count_errors([edited[edit] for edit in changed], progress)
            outcomes.append(EditOutcomes(success, num_steps, errors_after))
        return EditOutcomes(*(torch.cat(field) for field in zip(*outcomes, strict=True)))

    @property
    def _together(self) -> int:
        """How many edits are computed together: at most those that fit into the half of the budget without features.

        While it is made, an edit holds about six sets of parameters: its own, their gradients, two of the rule's state,
        and the next values of the first and the last.
        """
        return min(self.edits_at_once, self._sets_that_fit(6))

    @property
    def _group_size(self) -> int:
        """How many edited networks are held to be scored on the same features.

        Kept features cost nothing to look at again; others are computed again for each group, so it is made large.
        """
        return self._together if self.keeps_features else max(self._together, self._sets_that_fit(1))

    def _sets_that_fit(self, sets_per_edit: int) -> int:
        bytes_per_edit = sets_per_edit * sum(param.nbytes for param in self._params.values())
        return max(1, self._budget // 2 // bytes_per_edit)

    def _edit_group(
        self, dataset: Dataset, indices: Tensor, labels: Tensor
    ) -> tuple[list[dict[str, Tensor]], Tensor, Tensor]:
        """Make the edits of a group: edited parameters of each, success [E] and number of steps [E]."""
        results = [
            self._edit(torch.stack([dataset[index][0] for index in some.tolist()]), targets)
            for some, targets in zip(indices.split(self._together), labels.split(self._together), strict=True)
        ]
        edited = [
            {name: stacked[edit] for name, stacked in result.params.items()}
            for result in results
            for edit in range(len(result.success))
        ]
        success = torch.cat([result.success for result in results]).cpu()
        return edited, success, torch.cat([result.num_steps for result in results]).cpu()

    def _edit(self, images: Tensor, labels: Tensor) -> EditResult:
        with torch.no_grad():
            features = self._prefix(images)
        samples = tuple(feature.unsqueeze(1) for feature in features)
        targets = labels.to(self.device).unsqueeze(1)
        return self.editor.edit_many(self.split.suffix, self._params, samples, targets)

    @torch.no_grad()
    def _count_errors(self, edited: list[dict[str, Tensor]], progress: Callable[[float], object]) -> Tensor:
        """Count errors on the scoring images, int64 [E]: images outside, edits inside."""
        errors = torch.zeros(len(edited), dtype=torch.int64, device=self.device)
        for features, targets in self._scoring_batches() if edited else ():
            for edit, params in enumerate(edited):
                errors[edit] += (self.split.suffix(features, params).argmax(dim=-1) != targets).sum()
                progress(len(targets) / self.num_images)
        return errors.cpu()

    def _scoring_batches(self) -> Iterator[tuple[Features, Tensor]]:
        if self._features is not None:
            yield from self._features
            return
        position = 0
        for images, targets in self.batches:
            scoring = self._scoring_part(position)
            position += len(targets)
            if len(targets[scoring]):
                yield self._prefix(images[scoring]), targets[scoring].to(self.device)

    def _prefix(self, images: Tensor) -> Features:
        """Return prefix features, computed on the network's device and in its precision."""
        dtype = next(iter(self._params.values())).dtype
        return self.split.prefix(images.to(self.device, dtype))

    def _scoring_part(self, position: int) -> slice:
        """Return which images of a batch that begins at this position of the data set are scoring images."""
        return slice(-position % self.image_stride, None, self.image_stride)


class _Kept:
    """Collects features while they fit into a number of bytes."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.nbytes = 0
        self.parts: list[tuple[Features, Tensor]] = []

    def add(self, features: Features, labels: Tensor) -> None:
        self.nbytes += sum(feature.nbytes for feature in features)
        if self.nbytes > self.max_bytes:
            self.parts.clear()
        elif len(labels):
            self.parts.append((tuple(feature.clone() for feature in features), labels))

    def batches(self, batch_size: int) -> list[tuple[Features, Tensor]] | None:
        """Return what was collected in full batches, or None where it did not fit."""
        if self.nbytes > self.max_bytes:
            return None
        merged: list[tuple[Features, Tensor]] = []
        while self.parts:
            size = 0
            group: list[tuple[Features, Tensor]] = []
            while self.parts and (not group or size + len(self.parts[0][1]) <= batch_size):
                group.append(self.parts.pop(0))
                size += len(group[-1][1])
            features, labels = zip(*group, strict=True)
            merged.append((tuple(torch.cat(tensors) for tensors in zip(*features, strict=True)), torch.cat(labels)))
        return merged
