"""Streams of edits: which input shall get which label."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from editable.errors import UserError, require_at_least, require_seed

__all__ = [
    "EditStream",
    "Edits",
    "HeldOutEdits",
    "NaturalMistakeEdits",
    "NothingToEdit",
    "RandomLabelEdits",
    "random_training_edits",
]


class Edits(NamedTuple):
    """What is asked of the editor: the input at ``indices[i]`` shall get the label ``labels[i]``.

    Attributes:
        indices: positions in the data set or batch, int64 ``[E]``.
        labels: class indices wanted, int64 ``[E]``.
    """

    indices: Tensor
    labels: Tensor


class NothingToEdit(UserError):
    """A network that makes no mistake has none to correct: it may have been otherwise a while before."""


class EditStream(ABC):
    """Chooses the edits that a trained network is judged by.

    Attributes:
        metric_prefix: What stands before the names of metrics of these edits, so that figures of different kinds of
            edits are not taken for one another; nothing for random labels.
        anywhere: Whether it says itself which inputs are edited, wherever they are, and in which order, so that it is
            not asked about a part of the data set.
    """

    metric_prefix = ""
    anywhere = False

    def bind(self, images: Dataset, classes: Sequence[str] | None) -> "EditStream":
        """Return the stream as it is of some images, whose names and classes it may look up; here itself.

        Args:
            images: The data set that edits are chosen of.
            classes: Class names by label; none where they are unknown.

        Raises:
            UserError: If it names what is not there.
        """
        return self

    def most_edits(self, num_inputs: int) -> int | None:
        """Return how many edits of so many inputs may be asked for; none, as here, where it takes any number."""
        return None

    @abstractmethod
    def __call__(self, labels: Tensor, predictions: Tensor, num_classes: int, num_edits: int | None = None) -> Edits:
        """Choose the edits.

        Args:
            labels: true class indices of the data set, int64 ``[N]``.
            predictions: the unedited network's class indices, int64 ``[N]``.
            num_classes: number of classes.
            num_edits: number of edits wanted; ``None`` leaves it to the stream.

        Returns:
            The edits, on the CPU.

        Raises:
            UserError: so many edits cannot be had.
        """


class RandomLabelEdits(EditStream):
    """Random inputs with uniformly random labels: the published protocol, number for number.

    With numpy's legacy generator: the first 1000 of a permutation of the N inputs, then 1000 labels drawn uniformly;
    the first ``num_edits`` of these are the edits (all 1000, or N if that is less, where ``num_edits`` is ``None``).
    More are drawn only where more than 1000 are asked for. A label that equals the network's prediction stays in: it
    takes 0 steps and is a success. Source: Sinitsin et al., ICLR 2020, evaluation protocol.

    Args:
        seed: seed of the draw; the published tables have 9.
    """

    published_num_edits = 1000

    def __init__(self, seed: int = 9) -> None:
        require_seed(seed=seed)
        self.seed = seed

    def most_edits(self, num_inputs: int) -> int:
        """Return the number of inputs, of which each is edited once."""
        return num_inputs

    def __call__(self, labels: Tensor, predictions: Tensor, num_classes: int, num_edits: int | None = None) -> Edits:
        """Choose the edits; see :meth:`EditStream.__call__`. Of ``labels``, only the number matters."""
        num_inputs = len(labels)
        if num_edits is None:
            num_edits = min(self.published_num_edits, num_inputs)
        _check_num_edits(num_edits, num_inputs, "inputs")
        num_drawn = min(max(self.published_num_edits, num_edits), num_inputs)
        random = np.random.RandomState(self.seed)
        indices = random.permutation(num_inputs)[:num_drawn]
        new_labels = random.randint(0, num_classes, num_drawn)
        return Edits(_to_tensor(indices[:num_edits]), _to_tensor(new_labels[:num_edits]))


class NaturalMistakeEdits(EditStream):
    """Inputs that the network gets wrong, with their true labels.

    All mistakes in the order of the data set where ``num_edits`` is ``None`` or no smaller than their number; else
    ``num_edits`` of them, chosen at random by seed. Metrics are named ``mistake_drawdown``, ``mistake_success_rate``
    and so on.

    Args:
        seed: seed of the choice.
    """

    metric_prefix = "mistake_"

    def __init__(self, seed: int = 9) -> None:
        require_seed(seed=seed)
        self.seed = seed

    def __call__(self, labels: Tensor, predictions: Tensor, num_classes: int, num_edits: int | None = None) -> Edits:
        """Choose the edits; see :meth:`EditStream.__call__`. No mistake at all raises :class:`NothingToEdit`."""
        labels, predictions = labels.cpu(), predictions.cpu()
        mistakes = (predictions != labels).nonzero().flatten()
        if len(mistakes) == 0:
            raise NothingToEdit(
                f"The network makes no mistake on these {len(labels)} inputs, so there is none to correct: "
                "use more inputs, or RandomLabelEdits."
            )
        if num_edits is not None and num_edits < len(mistakes):
            _check_num_edits(num_edits, len(mistakes), "mistakes")
            order = np.random.RandomState(self.seed).permutation(len(mistakes))
            mistakes = mistakes[_to_tensor(order[:num_edits])]
        return Edits(mistakes, labels[mistakes])


class HeldOutEdits(EditStream):
    """Random inputs with uniformly random labels, none of them an input that results are reported on.

    With numpy's legacy generator and the seed given here: a permutation of the inputs that are not reported, of which
    the first ``num_edits`` are taken (all, where that is ``None``), then as many labels drawn uniformly. Whatever is
    chosen by such edits, a learning rate for example, is chosen without a look at the reported ones.

    Args:
        reported: the stream of the reported edits, by default the published ones.
        num_reported: number of reported edits; fewer where the stream has fewer.
        seed: seed of the draw.
    """

    def __init__(
        self,
        reported: EditStream | None = None,
        num_reported: int = RandomLabelEdits.published_num_edits,
        seed: int = 0,
    ) -> None:
        require_at_least(1, num_reported=num_reported)
        require_seed(seed=seed)
        self.reported = reported or RandomLabelEdits()
        self.num_reported = num_reported
        self.seed = seed

    def bind(self, images: Dataset, classes: Sequence[str] | None) -> "HeldOutEdits":
        """Bind the reported edits; see :meth:`EditStream.bind`."""
        return HeldOutEdits(self.reported.bind(images, classes), self.num_reported, self.seed)

    def __call__(self, labels: Tensor, predictions: Tensor, num_classes: int, num_edits: int | None = None) -> Edits:
        """Choose the edits; see :meth:`EditStream.__call__`."""
        reported = self.reported(labels, predictions, num_classes, min(self.num_reported, len(labels)))
        free = torch.ones(len(labels), dtype=torch.bool)
        free[reported.indices] = False
        inputs = free.nonzero().flatten()
        num_edits = len(inputs) if num_edits is None else num_edits
        if not 1 <= num_edits <= len(inputs):
            raise UserError(
                f"{num_edits} held-out edits are asked for, but of these {len(labels)} inputs {len(inputs)} are left "
                "beside those of the reported edits: ask for no more, or draw them from other images."
            )
        random = np.random.RandomState(self.seed)
        indices = inputs[_to_tensor(random.permutation(len(inputs))[:num_edits])]
        return Edits(indices, _to_tensor(random.randint(0, num_classes, num_edits)))


def random_training_edits(batch_size: int, num_classes: int, num_edits: int, generator: torch.Generator) -> Edits:
    """Draw the edits of one training batch: inputs without replacement, labels uniform over the classes.

    Args:
        batch_size: number of inputs in the batch.
        num_classes: number of classes.
        num_edits: number of edits, 1 ≤ num_edits ≤ batch_size.
        generator: source of randomness; the edits are on its device.

    Returns:
        The edits; ``indices`` are positions in the batch.

    Raises:
        UserError: ``num_edits`` is out of range.
    """
    require_at_least(1, batch_size=batch_size, num_classes=num_classes)
    _check_num_edits(num_edits, batch_size, "inputs of the batch")
    indices = torch.randperm(batch_size, generator=generator, device=generator.device)[:num_edits]
    labels = torch.randint(num_classes, (num_edits,), generator=generator, device=generator.device)
    return Edits(indices, labels)


def _check_num_edits(num_edits: int, available: int, what: str) -> None:
    if not 1 <= num_edits <= available:
        raise UserError(f"num_edits is {num_edits}, but must be from 1 to {available}, the number of {what}.")


def _to_tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array.astype(np.int64))
