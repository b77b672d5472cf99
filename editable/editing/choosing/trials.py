"""Candidates' edits of one network, each made from the unedited one, and what each costs on images that judge."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from editable.data.images.same_images import SameImages
from editable.editing.choosing.candidates import Candidate
from editable.editing.editors.base import BaseEditor, label_range
from editable.editing.editors.placing import needs_place, split_for
from editable.editing.evaluation.stream import Cost, StreamEvaluator
from editable.errors import UserError
from editable.models import SplitNetwork

__all__ = ["JudgingImages", "Made", "Measured", "Trial", "Trials", "key_of"]

Place = Callable[[BaseEditor, SplitNetwork], BaseEditor]
"""Returns an editor that asks for more than the samples of an edit at its place; see :meth:`BaseEditor.at`."""


class Made(NamedTuple):
    """What an editor has made of what is asked.

    Attributes:
        params: Edited parameters by name.
        num_right: Number of images that have the labels asked for, as far as the edit as a whole holds.
        num_steps: Number of updates.
    """

    params: Mapping[str, Tensor]
    num_right: int
    num_steps: int


class Trial(NamedTuple):
    """A candidate, and what came of it.

    Attributes:
        candidate: The candidate.
        success: Whether enough images have the labels asked for.
        num_right: How many have.
        made: Its edit; none where it did not succeed.
        cost: On the judging images that are not edited; none where it did not succeed, or there are none.
        why: Why it could not be tried.
    """

    candidate: Candidate
    success: bool = False
    num_right: int = 0
    made: Made | None = None
    cost: Cost | None = None
    why: str = ""


class JudgingImages(NamedTuple):
    """Labelled images by which candidates are compared.

    Attributes:
        batches: Returns batches (images [B, C, H, W], labels [B]), the same ones each time.
        number: Of images in all batches together.
        edited: Finds those among them that are edited, and judge nothing.
    """

    batches: Callable[[], Iterable[tuple[Tensor, Tensor]]]
    number: int
    edited: SameImages


class Measured:
    """What is computed once for all edits of some layers: the judging images' features, and editors at their places.

    Args:
        split: The network, split for the editor.
        editor: One of those that edit these layers.
        memory_budget: In GiB, for kept features of the judging images; see :class:`StreamEvaluator`.
        folder: Where features that do not fit into memory are kept; by default the system's temporary folder.

    Attributes:
        evaluator: Has what was kept of the judging images.
    """

    def __init__(
        self, split: SplitNetwork, editor: BaseEditor, memory_budget: float | None = None, folder: Path | None = None
    ) -> None:
        device = next(iter(split.params.values())).device
        self.evaluator = StreamEvaluator(split, editor, device, memory_budget, folder)
        self._placed: dict[BaseEditor, BaseEditor] = {}

    def run(self, batches: Iterable[tuple[Tensor, Tensor]], number: int, place: Place) -> None:
        """Run the judging images through the unedited network.

        An editor with a layer of its own is put at its place before: it sets the layer up there, and features are read
        behind it. Where it cannot be put there, :meth:`at_its_place` says so.

        Args:
            batches: Images [B, C, H, W] and labels [B].
            number: Of all images.
            place: Puts editors at their places.

        Raises:
            UserError: If a label is none of the network's.
        """
        if self.evaluator.editor.own_layers is not None:
            with suppress(UserError):
                self.at_its_place(self.evaluator.editor, place)
        base = self.evaluator.measure_base(batches, number)
        lowest, highest = label_range(base.labels)
        if lowest < 0 or highest >= base.num_classes:
            wrong = lowest if lowest < 0 else highest
            raise UserError(f"judge has the label {wrong}, which is none of the network's")

    def at_its_place(self, editor: BaseEditor, place: Place) -> BaseEditor:
        """Return an editor that succeeds strictly, at its place."""
        if editor not in self._placed:
            strict = editor.to(self.evaluator.device).with_strict_success()
            self._placed[editor] = place(strict, self.evaluator.split) if needs_place(editor) else strict
        return self._placed[editor]

    def take_weights(self) -> None:
        """Go on with the network's weights as they are now; see :meth:`StreamEvaluator.take_weights`."""
        self._placed.clear()
        self.evaluator.take_weights()


class Trials:
    """Lets candidates make their edits of one network, and looks at what each costs.

    Args:
        network: In full precision; it stays as it is.
        make: Called with an editor at its place and the split network, makes what is asked for.
        place: Puts editors at their places.
        enough: At how many images with their labels a candidate succeeds.
        judging: By which candidates are compared; without them, nothing is known of their cost.
        memory_budget: In GiB, for kept features of the judging images, for each place of edits.
        folder: Where features that do not fit into memory are kept; by default the system's temporary folder.
        measured: What earlier trials of the same network, judging images and places have kept, to which what these
            keep is added. By default nothing.

    Attributes:
        others: Positions of the judging images that are not edited, int64 [N], once a candidate has been tried.
    """

    def __init__(
        self,
        network: nn.Module,
        make: Callable[[BaseEditor, SplitNetwork], Made],
        place: Place,
        enough: int,
        judging: JudgingImages | None = None,
        memory_budget: float | None = None,
        folder: Path | None = None,
        measured: dict[object, Measured] | None = None,
    ) -> None:
        self.network, self._make, self._place, self._enough = network, make, place, enough
        self._judging, self._memory_budget, self._folder = judging, memory_budget, folder
        self.others = torch.zeros(0, dtype=torch.int64)
        self._measured = {} if measured is None else measured

    def run(self, candidate: Candidate) -> Trial:
        """Let a candidate make its edit, from the unedited network."""
        try:
            measured = self._measured_for(candidate)
            evaluator = measured.evaluator
            editor = measured.at_its_place(candidate.editor, self._place)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", ".* do not get their labels")  # it is told of the candidate
                made = self._make(editor, evaluator.split)
        except UserError as error:
            return Trial(candidate, why=str(error))
        if made.num_right < self._enough:
            return Trial(candidate, num_right=made.num_right)
        cost = evaluator.cost(made.params, self.others) if self._judging is not None else None
        return Trial(candidate, True, made.num_right, made, cost)

    def split_of(self, candidate: Candidate) -> SplitNetwork:
        """Return the network as it was split for a candidate that has been tried."""
        return self._measured_for(candidate).evaluator.split

    def close(self) -> None:
        """Let go of kept features."""
        for measured in self._measured.values():
            measured.evaluator.close()

    def _measured_for(self, candidate: Candidate) -> Measured:
        """Return what is kept for edits of some layers; the judging images are run through the network once."""
        key = key_of(candidate)
        if key not in self._measured:
            split = split_for(candidate.editor, self.network, candidate.layers)
            measured = Measured(split, candidate.editor, self._memory_budget, self._folder)
            if self._judging is not None:
                measured.run(self._looked_through(self._judging), self._judging.number, self._place)
            self._measured[key] = measured
        if self._judging is not None and not len(self.others):  # earlier trials have run the judging images
            for _ in self._looked_through(self._judging):
                pass
        return self._measured[key]

    def _looked_through(self, judging: JudgingImages) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the judging images in batches, and remember in the end which of them are not edited."""
        found = []
        for images, labels in judging.batches():
            found.append(judging.edited(images.cpu()))
            yield images, labels
        self.others = (~torch.cat(found)).nonzero().flatten()
        if not len(self.others):
            raise UserError("judge has no images but those that are edited: give others")


def key_of(candidate: Candidate) -> object:
    """Return what candidates have in common for which the judging images are measured once."""
    return type(candidate.editor) if candidate.editor.own_layers is not None else candidate.layers
