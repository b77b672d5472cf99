"""Many corrections of one network: each on top of the last, or together; what holds of them, and what they cost."""

import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from editable.editing.editors.base import BaseEditor
from editable.editing.editors.objective import is_predicted
from editable.editing.evaluation.feature_store import FeatureStore
from editable.editing.evaluation.outcomes import BasePredictions
from editable.errors import UserError, require_at_least, require_positive
from editable.models import Features, SplitNetwork
from editable.models.machine.devices import budget_in_bytes, to_device
from editable.models.machine.full_precision import full_precision

__all__ = ["Correction", "Cost", "Held", "StreamEvaluator", "StreamState", "points_of"]

BATCH = 250


class Correction(NamedTuple):
    """What one correction asks for, and what tells whether it holds for more than that.

    Attributes:
        samples: The image and the views of it that are edited with it, [1 + v, C, H, W].
        views: Further views of the image that judge the correction, [V, C, H, W].
        changes: The image changed in ways that were no part of the correction, [G, C, H, W].
        label: Asked for.
    """

    samples: Tensor
    views: Tensor
    changes: Tensor
    label: int


class StreamState(NamedTuple):
    """What a stream has come to: all that its next correction depends on.

    Attributes:
        params: Parameters by name, as the last correction has left them.
        editor: The editor's state.
    """

    params: dict[str, Tensor]
    editor: dict[str, Tensor]


class Held(NamedTuple):
    """What holds of n corrections, by the network that has them all; each bool.

    Attributes:
        images: Whether an image has its label, [n].
        views: Whether a view has, [n, V].
        changes: Whether a changed image has, [n, G].
    """

    images: Tensor
    views: Tensor
    changes: Tensor


class Cost(NamedTuple):
    """What a corrected network predicts for the judged images, beside the unedited one; all [N], on the CPU.

    Attributes:
        labels: True labels, int64.
        before: The unedited network's predictions, int64.
        after: The corrected network's, int64.
    """

    labels: Tensor
    before: Tensor
    after: Tensor

    @property
    def error_before(self) -> float:
        """Error rate of the unedited network."""
        return _share(self.before != self.labels)

    @property
    def error(self) -> float:
        """Error rate of the corrected network."""
        return _share(self.after != self.labels)

    @property
    def num_broken(self) -> int:
        """Number of images that were right and are wrong."""
        return int(((self.before == self.labels) & (self.after != self.labels)).sum())

    @property
    def num_changed(self) -> int:
        """Number of images of which another label is predicted; no label is looked at."""
        return int((self.before != self.after).sum())

    @property
    def broken(self) -> float:
        """Share of images that were right and are wrong."""
        return self.num_broken / len(self.labels)

    @property
    def mended(self) -> float:
        """Share of images that were wrong and are right."""
        return _share((self.before != self.labels) & (self.after == self.labels))

    @property
    def agreement(self) -> float:
        """Share of images of which both networks predict the same."""
        return 1 - self.num_changed / len(self.labels)

    def group_generality(self, predicted: Tensor, asked: Tensor) -> tuple[int, int]:
        """Return how many images are mistaken in the same way as some corrected one, and how many of them are right.

        Args:
            predicted: What the unedited network predicts for the corrected images, int64 [n].
            asked: The labels asked for, int64 [n]. An image is of the same kind where its true label is the asked one
                and its prediction the same.
        """
        kinds = set(zip(predicted.tolist(), asked.tolist(), strict=True))
        same = torch.tensor([pair in kinds for pair in zip(self.before.tolist(), self.labels.tolist(), strict=True)])
        same = same.bool() & (self.before != self.labels)
        return int(same.sum()), int((same & (self.after == self.labels)).sum())


class StreamEvaluator:
    """Makes corrections one after the other or together, and looks at what holds and what it costs.

    Everything is compared with the unedited network. Prefix features of judged images and of all that tells whether
    corrections hold are computed once and kept, in memory where they fit into the budget, else on disk.

    Args:
        split: The furnished network, split at its first editable parameter.
        editor: Makes the corrections, at its place already; see :meth:`BaseEditor.at`.
        device: Where the network lives.
        memory_budget: In GiB, for kept features; by default half of what a CUDA device has left, 4 elsewhere.
        folder: Where features that do not fit into memory are kept; by default the system's temporary folder.

    Attributes:
        editor: As given; may be replaced.
        predictions: Of the unedited network, int64 [N], once it is measured.
    """

    def __init__(
        self,
        split: SplitNetwork,
        editor: BaseEditor,
        device: torch.device | str = "cpu",
        memory_budget: float | None = None,
        folder: Path | None = None,
    ) -> None:
        require_positive(memory_budget=memory_budget)
        self.split, self.editor, self.device, self.folder = split, editor, torch.device(device), folder
        self._budget = budget_in_bytes(self.device, memory_budget) // 2
        self._base = {name: param.detach().clone() for name, param in split.params.items()}
        self._store = self._held = FeatureStore(0, self._budget, self.device)
        self._shape = (0, 0)
        self._asked: list[int] = []
        self._samples: list[tuple[Features, Tensor]] = []
        self.predictions = torch.zeros(0, dtype=torch.int64)

    @property
    def start(self) -> StreamState:
        """A stream without corrections."""
        return StreamState({name: param.clone() for name, param in self._base.items()}, {})

    @full_precision()
    @torch.no_grad()
    def measure_base(
        self,
        batches: Iterable[tuple[Tensor, Tensor]],
        num_images: int,
        progress: Callable[[int], object] = lambda done: None,
    ) -> BasePredictions:
        """Run the unedited network over the whole data set once, and keep the features of its images.

        To be called again where the editor, at its place, has set up a layer of its own: features are read behind it.

        Args:
            batches: Batches (images [B, C, H, W], labels [B]) of the data set; read once.
            num_images: Number of images in all batches together.
            progress: Called with the number of images done since the last call.

        Raises:
            UserError: If logits are not finite, or there is no room for the features.
        """
        self._base = {name: param.detach().clone() for name, param in self.split.params.items()}
        self._store.close()
        self._store = FeatureStore(num_images, self._budget, self.device, self.folder)
        predictions, num_classes = [], 0
        for images, labels in batches:
            features = self._prefix(images)
            logits = self.split.suffix(features, self._base)
            if not logits.isfinite().all():
                raise UserError(
                    f"the network's logits are NaN or infinite for images {len(self._store)} to "
                    f"{len(self._store) + len(labels) - 1}, before any correction: look at its weights, and at the "
                    "mean and std of the data"
                )
            self._store.add(features, labels)
            predictions.append(logits.argmax(dim=-1))
            num_classes = logits.shape[-1]
            progress(len(labels))
        self.predictions = torch.cat(predictions).cpu()
        return BasePredictions(self._store.labels.cpu(), self.predictions, num_classes)

    def take_weights(self) -> None:
        """Take the network's weights as they are now for the unedited ones; kept features have to be theirs still.

        See :meth:`SplitNetwork.features_depend_on`.
        """
        self._base = {name: param.detach().clone() for name, param in self.split.params.items()}
        self.predictions = self._predict(self._store, self._base, torch.arange(len(self.predictions)))

    def expect(self, num_corrections: int, num_views: int, num_changes: int) -> None:
        """Make room for corrections, which :meth:`add` takes one by one.

        Args:
            num_corrections: Number of them.
            num_views: V, further views of each.
            num_changes: G, changed images of each.
        """
        require_at_least(1, num_corrections=num_corrections)
        self._shape = (num_views, num_changes)
        rows = num_corrections * (1 + num_views + num_changes)
        self._held = FeatureStore(rows, self._budget, self.device, self.folder)
        self._asked, self._samples = [], []

    def add(self, correction: Correction) -> None:
        """Take the next correction, without making it."""
        samples, views, changes, label = correction
        features = self._prefix(torch.cat([samples, views, changes]))
        edited = tuple(feature[: len(samples)].clone() for feature in features)
        held = tuple(torch.cat([feature[:1], feature[len(samples) :]]) for feature in features)
        self._held.add(held, torch.full((len(held[0]),), label))
        self._samples.append((edited, torch.full((len(samples),), label, device=self.device)))
        self._asked.append(label)

    @full_precision()
    def correct(self, number: int, state: StreamState) -> tuple[StreamState, bool, float]:
        """Make correction ``number`` on top of all earlier ones.

        Returns:
            The state after it, whether it succeeded, and how many seconds it took. One that leaves NaN or infinite
            weights is none: the state is the given one then, which is said.
        """
        features, labels = self._samples[number]
        self._samples[number] = ((), labels)  # it is asked once
        start = time.perf_counter()
        with _without_words():
            result, editor = self.editor.extend(self.split.suffix, state.params, features, labels, state.editor)
        seconds = time.perf_counter() - start
        if not _is_finite(result.params):
            return state, False, seconds
        after = StreamState(*(_laid_out(tensors) for tensors in (result.params, editor)))
        return after, bool(result.success), seconds

    @full_precision()
    def correct_together(self, number: int) -> tuple[StreamState | None, bool, float]:
        """Make the first ``number`` corrections in one edit of the unedited network.

        Returns:
            As of :meth:`correct`; no state where NaN or infinite weights are left.
        """
        some = self._samples[:number]
        features = tuple(map(torch.cat, zip(*(own for own, _ in some), strict=True)))
        labels = torch.cat([own for _, own in some])
        start = time.perf_counter()
        with _without_words():
            result = self.editor(self.split.suffix, self._base, features, labels)
        seconds = time.perf_counter() - start
        if not _is_finite(result.params):
            return None, False, seconds
        return StreamState(_laid_out(result.params), {}), bool(result.success), seconds

    def cost(self, params: Mapping[str, Tensor], indices: Tensor) -> Cost:
        """Run a corrected network over some images of the data set, int64 [N]."""
        after = self._predict(self._store, params, indices)
        return Cost(self._store.labels.cpu()[indices], self.predictions[indices], after)

    def held(self, params: Mapping[str, Tensor], number: int | None = None) -> Held:
        """Look whether the first corrections hold in a corrected network; by default all that were taken."""
        number = len(self._asked) if number is None else number
        rows = 1 + sum(self._shape)
        right = self._predict(self._held, params, torch.arange(number * rows), strict=True).view(number, rows) > 0
        return Held(right[:, 0], *right[:, 1:].split(self._shape, dim=1))

    def num_bytes(self, params: Mapping[str, Tensor]) -> int:
        """Return the size of what corrections have changed, in bytes: rows that are new, or whole tensors."""
        changed = 0
        for name, param in params.items():
            base = self._base[name]
            if param.shape != base.shape:
                changed += max(0, param.nbytes - base.nbytes)
            elif not torch.equal(param, base):
                changed += param.nbytes
        return changed

    def close(self) -> None:
        """Let go of the kept features."""
        self._store.close()
        self._held.close()

    @full_precision()
    @torch.no_grad()
    def _predict(
        self, store: FeatureStore, params: Mapping[str, Tensor], indices: Tensor, strict: bool = False
    ) -> Tensor:
        """Return predictions for rows of a store, int64 [n]; where strict, whether they are their labels."""
        parts = [torch.zeros(0, dtype=torch.int64, device=self.device)]
        for rows in indices.split(BATCH):
            features, labels = store.rows(rows)
            logits = self.split.suffix(features, params)
            parts.append(is_predicted(logits, labels).long() if strict else logits.argmax(dim=-1))
        return torch.cat(parts).cpu()

    @torch.no_grad()
    def _prefix(self, images: Tensor) -> Features:
        dtype = next(iter(self._base.values())).dtype
        return self.split.prefix(to_device(images, self.device, dtype))


def points_of(num_corrections: int) -> list[int]:
    """Return after which corrections a stream is looked at: 1, 2, 5, 10, 20, 50, … and the last one."""
    points = {factor * 10**power for power in range(len(str(num_corrections))) for factor in (1, 2, 5)}
    return sorted({point for point in points if point < num_corrections} | {num_corrections})


@contextmanager
def _without_words() -> Iterator[None]:
    """Leave out an editor's warning of what does not succeed, at each correction anew: the outcome counts it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* do not get their labels")
        yield


def _is_finite(params: Mapping[str, Tensor]) -> bool:
    """Return whether all values are finite numbers; say so where they are not."""
    if all(param.isfinite().all() for param in params.values()):
        return True
    warnings.warn(
        "a correction has left weights that are NaN or infinite, and was taken back: give the editor a lower learning "
        "rate, or full precision",
        UserWarning,
        stacklevel=2,
    )
    return False


def _laid_out(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors as they would come back from a file: other strides may give products other last bits."""
    return {name: some.detach().contiguous() for name, some in tensors.items()}


def _share(which: Tensor) -> float:
    return which.double().mean().item()
