"""Where corrections are made: a network of the bench's own, with those that are on, and the images that judge."""

import copy
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import editable.editing.patches.record as kept
from editable.app.concept import ConceptLayer
from editable.calls.edit import best_edit
from editable.calls.judge import Judge
from editable.calls.request import Request
from editable.calls.running import logits_on
from editable.data.images.same_images import SameImages
from editable.editing import (
    GD,
    BaseEditor,
    Editor,
    EditPatch,
    EditRecord,
    EditSite,
    StreamEvaluator,
    split_for,
    upper_bound,
)
from editable.editing.choosing.candidates import Candidate
from editable.editing.choosing.trials import Measured, key_of
from editable.editing.choosing.tried import Harm
from editable.errors import UserError
from editable.models import SplitNetwork
from editable.models.state_dicts import tensors_of

__all__ = ["Asked", "Bench", "Broken", "Trial"]

LEVEL = 0.95
SEED = 0
STRENGTHS = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""Of a rewrite: the first that is enough is taken."""
MOST_BROKEN = 48

Progress = Callable[[str, int, int], object]
"""Called with what is being done, how much of it is, and how much there is."""


class Asked(NamedTuple):
    """What one correction is asked for.

    Attributes:
        image: As the network gets it, float32 [C, H, W].
        name: Of the image.
        label: Of the class that the image shall be taken for, or its painted part shall behave as.
        mask: The painted part, 0 and 1, [H, W]; none where the label is all that is asked.
    """

    image: Tensor
    name: str
    label: int
    mask: Tensor | None = None


class Broken(NamedTuple):
    """A judging image that was right and would be wrong: its position, its label, and what it would be taken for."""

    position: int
    label: int
    after: int


@dataclass(frozen=True)
class Trial:
    """A correction that was made and not kept yet.

    Attributes:
        asked: For what.
        by: Editor and layers, or the rewrite, in words.
        before: Probabilities of the network as it was, [classes].
        after: With the correction.
        harm: What it costs the network as it was, on the judging images.
        holds: For each kind of view that had no part in it, whether it gets the label too.
        patch: The correction.
        maps: Where the network as it was sees what speaks for what it was taken for, and with the correction what
            speaks for what it is taken for then, [h, w] each; none of a class that no reference image shows.
        broken: The first images that it would break.
        seconds: That it took.
    """

    asked: Asked
    by: str
    before: Tensor
    after: Tensor
    harm: Harm
    holds: Mapping[str, bool]
    patch: EditPatch
    maps: tuple[Tensor | None, Tensor | None] = (None, None)
    broken: tuple[Broken, ...] = ()
    seconds: float = 0.0


class Bench:
    """Makes corrections on top of those that are on, and knows what each costs.

    The network is the bench's own copy; what it computes of the judging images up to the first parameter that an edit
    may change is kept, as long as no correction has changed what leads there. To be used by one thread at a time.

    Args:
        network: The unedited network, in float32; it is copied.
        candidates: Editors to choose from for a label, and where they work.
        judge: Images [N, C, H, W] and labels [N] that judge.
        references: Images and labels that are neither judged nor edited.
        classes: Their names.
        views: Number of views of an image that are edited with it.
        concept: What looks at parts of images; none where the network has no convolution for that.
        progress: Told of what takes long.
        alone: Entered while other threads must not run a network: torch.fx takes hold of all modules when it traces.
    """

    def __init__(
        self,
        network: nn.Module,
        candidates: Sequence[Candidate],
        judge: tuple[Tensor, Tensor],
        references: tuple[Tensor, Tensor],
        classes: Sequence[str],
        views: int = 0,
        concept: ConceptLayer | None = None,
        progress: Progress = lambda what, done, total: None,
        alone: AbstractContextManager = nullcontext(),  # noqa: B008  it has no state
    ) -> None:
        self.network = copy.deepcopy(network).eval()
        self._alone = alone
        self.candidates, self.classes, self.views, self.concept = list(candidates), list(classes), views, concept
        self.progress = progress
        self.patches: list[EditPatch] = []
        self.labels = judge[1]
        self._images = judge[0]
        self._seen = _Seen(judge, self._tell)
        self._judge, self._references = Judge(self._seen), Judge(TensorDataset(*references))
        self._measured: dict[object, Measured] = {}
        self.prepare()
        self.unedited = self.predictions

    @property
    def predictions(self) -> Tensor:
        """What the network with its corrections takes the judging images for, int64 [N]."""
        return self._measured_for(self.candidates[0]).evaluator.predictions

    def prepare(self) -> None:
        """Run judging images through the network, as far as what was kept of them does not do any more."""
        for candidate in self.candidates:
            measured = self._measured_for(candidate)
            with suppress(UserError):  # it is told where a correction is asked for
                measured.at_its_place(candidate.editor, self._placed)
        if self.concept is not None:
            self._measured_for(self._place_of_parts())

    def go_to(self, patches: Sequence[EditPatch]) -> None:
        """Take patches out of the network and put others in, bit for bit, until these are in it, one on the other.

        Raises:
            UserError: If they are none of this network; those that were there are put back.
        """
        before = list(self.patches)
        names = {name for patch in (*before, *patches) for name in _names(patch)}
        own = tensors_of(self.network)
        values = {name: own[name].clone() for name in names if name in own}
        try:
            with self._alone:
                self._exchange(patches)
        except BaseException:
            with self._alone:
                self._exchange(before)
            raise
        finally:
            own = tensors_of(self.network)
            changed = {name for name in names if not _same(values.get(name), own.get(name))}
            self._forget(changed, any(patch.layers for patch in (*before, *patches)))

    def correct(self, asked: Asked) -> Trial:
        """Make a correction of the network as it is; nothing is kept of it but what is returned.

        Raises:
            UserError: If it cannot be made.
        """
        start = time.monotonic()
        self.prepare()
        trial = self._by_label(asked) if asked.mask is None else self._by_rewrite(asked, asked.mask)
        first = trial.harm.broken[:MOST_BROKEN]
        with self._alone, ExitStack() as applied:
            then = [self._map(asked.image, trial.before)]
            applied.enter_context(trial.patch.applied(self.network))
            then.append(self._map(asked.image, trial.after))
            after = logits_on(self.network, self._images[first]).argmax(dim=1).tolist() if first else []
        broken = zip(first, self.labels[first].tolist(), after, strict=True)
        return replace(
            trial,
            maps=(then[0], then[1]),
            broken=tuple(Broken(*some) for some in broken),
            seconds=time.monotonic() - start,
        )

    def _map(self, image: Tensor, probabilities: Tensor) -> Tensor | None:
        if self.concept is None:
            return None
        return self.concept.map(self.concept.block_of(self.network), image, int(probabilities.argmax()))

    def _by_label(self, asked: Asked) -> Trial:
        images, labels = asked.image[None], torch.tensor([asked.label])
        request = Request(self.network, images, labels, self._judge, self._references, self._measured)
        request.prepare(self.views, SEED)
        fix = best_edit(request, self.candidates, self.classes, LEVEL)
        assert fix.harm is not None
        (record,) = fix.patch.edits
        record = replace(record, asked=[self._sentence(asked, fix.before[0])], images=[asked.name])
        return Trial(
            asked,
            fix.chosen.title,
            fix.before[0],
            fix.after[0],
            fix.harm,
            {name: held == of for name, (held, of) in fix.holds.items()},
            replace(fix.patch, edits=(record,)),
        )

    def _by_rewrite(self, asked: Asked, mask: Tensor) -> Trial:
        if self.concept is None:
            raise UserError(
                "the network has no convolution that tells parts of an image apart: ask for a label instead"
            )
        if not mask.any():
            raise UserError("nothing is painted: paint the part of the image that shall behave otherwise")
        layer = self.concept.layer
        self.progress(f"rewriting {layer}", 0, 1)
        with self._alone:
            result = self.concept.rewrite(self.network, asked.image, mask, asked.label)
        own = self._measured_for(self._place_of_parts()).evaluator
        before = self._probabilities(own, asked.image, {})
        if int(before.argmax()) == asked.label:
            raise UserError(
                f"the network takes the image for '{self.classes[asked.label]}' already: name another class"
            )
        for strength in STRENGTHS:
            params = result.scaled(self.network, strength)
            after = self._probabilities(own, asked.image, params)
            if int(after.argmax()) == asked.label:
                break
        else:
            raise UserError(
                f"even {STRENGTHS[-1]:g} times the rewrite of {layer} does not make the image look like "
                f"'{self.classes[asked.label]}': paint more of what misleads the network, or ask for the label"
            )
        same = SameImages(asked.image[None])
        others = (~torch.cat([same(images) for images in self._images.split(256)])).nonzero().flatten()
        cost = own.cost(params, others)
        harm = Harm.of(cost, others, float(upper_bound(cost.num_broken, len(others), LEVEL)), LEVEL)
        record = EditRecord(
            [f"{self._sentence(asked, before)}, by its painted part ({100 * float(mask.mean()):.0f} % of it)"],
            {"solver": "editable.rewriting.ClosedForm", "layer": layer, "strength": strength},
            f"{harm.num_images} images that are not edited",
            {"error_before": harm.error_before, "error_after": harm.error_after},
            self.classes,
            [asked.name],
            [asked.label],
            kept.Harm("broken", len(harm.broken), harm.num_images, harm.bound, harm.level),
        )
        patch = EditPatch.of(self.network, params, record)
        by = f"rewrite of {layer}, strength {strength:g}"
        return Trial(asked, by, before, after, harm, {}, patch)

    def _probabilities(self, evaluator: StreamEvaluator, image: Tensor, params: Mapping[str, Tensor]) -> Tensor:
        split = evaluator.split
        own = next(iter(split.params.values()))
        with torch.no_grad():
            features = split.prefix(image[None].to(own.device, own.dtype))
            return split.suffix(features, params).float().softmax(dim=-1)[0].cpu()

    def _place_of_parts(self) -> Candidate:
        """Return what the judging images are measured for before the layer of parts is rewritten, by its full name."""
        assert self.concept is not None, "there is such a layer"
        with self._alone:
            layer = self.concept.block_of(self.network).layer
        return Candidate(Editor(GD(1.0)), (layer,))  # the editor is not used

    def _measured_for(self, candidate: Candidate) -> Measured:
        key = key_of(candidate)
        if key not in self._measured:
            self._seen.start("judging images")
            with self._alone, torch.no_grad():
                split = split_for(candidate.editor, self.network, candidate.layers)
                split.prefix(self._images[:1].to(next(iter(split.params.values()))))  # which may trace once more
            measured = Measured(split, candidate.editor)
            measured.run(self._judge.batches(), len(self._judge), self._placed)
            self._measured[key] = measured
        return self._measured[key]

    def _placed(self, editor: BaseEditor, split: SplitNetwork) -> BaseEditor:
        device = next(iter(split.params.values())).device
        return editor.at(EditSite(split, self._reference_batches, device))

    def _reference_batches(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        yield from self._references.batches(range(min(number, len(self._references))))

    def _exchange(self, patches: Sequence[EditPatch]) -> None:
        """Take out what is not wanted, the last first, and put in what is."""
        common = 0
        while common < min(len(self.patches), len(patches)) and self.patches[common] is patches[common]:
            common += 1
        while len(self.patches) > common:
            self.patches[-1].revert_(self.network)
            self.patches.pop()
        for patch in patches[common:]:
            patch.apply_(self.network)
            self.patches.append(patch)

    def _forget(self, changed: set[str], is_rebuilt: bool) -> None:
        """Let go of what was computed by other weights, and compute anew what is behind them.

        Args:
            changed: Names of the tensors that have other values.
            is_rebuilt: Whether the network may have got or lost a layer, by which all that looked at it is lost.
        """
        for key, measured in list(self._measured.items()):
            split = measured.evaluator.split
            if is_rebuilt or (changed and split.features_depend_on(changed)):
                measured.evaluator.close()
                del self._measured[key]
            elif changed:
                measured.take_weights()

    def _sentence(self, asked: Asked, before: Tensor) -> str:
        return f"{asked.name}: {self.classes[int(before.argmax())]} → {self.classes[asked.label]}"

    def _tell(self, done: int) -> None:
        self.progress(self._seen.what, done, len(self._seen))


class _Seen(TensorDataset):
    """Images and labels in memory, which tell how many of them were looked at."""

    def __init__(self, tensors: tuple[Tensor, Tensor], progress: Callable[[int], object]) -> None:
        super().__init__(*tensors)
        self.progress, self.what, self.done = progress, "", 0

    def start(self, what: str) -> None:
        """Begin to count."""
        self.what, self.done = what, 0

    def __getitem__(self, index: int) -> Any:
        self.done += 1
        if self.done % 16 == 0:
            self.progress(self.done)
        return super().__getitem__(index)


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    return one is other or (one is not None and other is not None and torch.equal(one, other))


def _names(patch: EditPatch) -> set[str]:
    """Return the names of all tensors that a patch changes."""
    return {*patch.changes, *(name for names in patch.tied.values() for name in names)}
