"""What is asked of a network in one call, on which candidates are tried, and the fix that comes of it."""

import copy
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import editable.editing.patches.record as kept
from editable.calls.fix import Fix
from editable.calls.judge import Judge, halves
from editable.calls.running import logits_on
from editable.calls.views import shifted_views
from editable.data.images.same_images import SameImages
from editable.data.modules.changed_views import CHANGES, ChangedViews
from editable.editing import BaseEditor, EditPatch, EditRecord, EditSite
from editable.editing.choosing.candidates import Candidate
from editable.editing.choosing.trials import JudgingImages, Made, Measured, Trial, Trials
from editable.editing.choosing.tried import Tried
from editable.editing.editors.objective import is_predicted
from editable.errors import UserError
from editable.models import SplitNetwork
from editable.models.logits import require_logits
from editable.models.state_dicts import tensors_of

__all__ = ["Request"]

FULL = (torch.float32, torch.float64)


class Request:
    """Images, with views of them, that shall get labels from a network, and the images that judge.

    Args:
        network: The network, which stays as it is.
        images: As the network gets them, [N, C, H, W].
        asked: Labels asked for, int64 [N].
        judge: Judges the edits.
        references: Images for what editors need besides; by default a part of the judge's.
        measured: What earlier requests with the same network, judge and references have kept of the judge's images,
            to which what this one keeps is added. By default nothing.
    """

    def __init__(
        self,
        network: nn.Module,
        images: Tensor,
        asked: Tensor,
        judge: Judge | None,
        references: Judge | None,
        measured: dict[object, Measured] | None = None,
    ) -> None:
        self.given, self.images, self.asked, self.judge, self._references = network, images, asked, judge, references
        first = next(network.parameters(), None)
        if first is None:
            raise UserError(f"{type(network).__name__} has no parameters that an edit could change")
        self.device = first.device
        self.network = network if first.dtype in FULL else copy.deepcopy(network).float()
        self._measured = measured

    def prepare(self, views: int, seed: int) -> None:
        """Look at what is asked, draw views, and share out the judge's images."""
        logits = logits_on(self.network, self.images)
        require_logits(logits, len(self.images))
        if int(self.asked.min()) < 0 or int(self.asked.max()) >= logits.shape[1]:
            raise UserError(
                f"the labels asked for are {sorted(set(self.asked.tolist()))}, but the network's classes are 0 … "
                f"{logits.shape[1] - 1}"
            )
        if is_predicted(logits, self.asked).all():
            raise UserError("the network gives all images the labels asked for already: there is nothing to edit")
        self.before = logits.float().softmax(dim=-1)
        changes = ChangedViews(TensorDataset(self.images), seed)
        self._changed = torch.stack([changes[image] for image in range(len(self.images))])
        more = shifted_views(self.images, views, seed)
        self._together = torch.cat([self.images, more.flatten(0, 1)])
        self._targets = torch.cat([self.asked, self.asked.repeat_interleave(views)])
        judging = None
        for given in filter(None, (self.judge, self._references)):
            given.fit(self.network)
        if self.judge is not None:
            self._judged, rest = halves(len(self.judge), self._references is None, seed)
            self._rest = rest.tolist()
            judge, judged = self.judge, self._judged.tolist()
            judging = JudgingImages(lambda: judge.batches(judged), len(judged), SameImages(self._together))
        self._trials = Trials(
            self.network, self._make, self._placed, len(self.images), judging, measured=self._measured
        )

    @property
    def fault(self) -> UserError | None:
        """What is wrong with the images that judge or serve otherwise, if that was found."""
        faults = (given.fault for given in (self.judge, self._references) if given is not None)
        return next(filter(None, faults), None)

    @property
    def positions(self) -> Tensor:
        """Which of the judge's images have judged, int64 [N]."""
        return self._judged[self._trials.others] if self.judge is not None else self._trials.others

    def run(self, candidate: Candidate) -> Trial:
        """Let a candidate make the edit, and look at what it costs if there is a judge."""
        if candidate.editor.own_layers is not None and self.network is not self.given:
            return Trial(candidate, why="a layer of the editor's own needs a network in full precision")
        return self._trials.run(candidate)

    def fix(self, candidate: Candidate, made: Made, tried: list[Tried], chosen: int, names: list[str] | None) -> Fix:
        """Return what is told of the chosen edit."""
        split = self._trials.split_of(candidate)
        after = self._edited_logits(split, made).float().softmax(dim=-1)
        classes = names or [str(label) for label in range(after.shape[1])]
        if len(classes) != after.shape[1]:
            raise UserError(f"classes has {len(classes)} names, but the network has {after.shape[1]} classes")
        with torch.no_grad():
            seen = split.prefix(self._changed.flatten(0, 1).to(self.device, _dtype(split.params.values())))
            held = is_predicted(split.suffix(seen, made.params).cpu(), self.asked.repeat_interleave(len(CHANGES)))
        counts = held.view(-1, len(CHANGES)).sum(dim=0).tolist()
        harm = tried[chosen].harm
        record = EditRecord(
            [f"{classes[int(self.before[image].argmax())]} → {classes[int(label)]}" for image, label in self._each()],
            {"editor": candidate.editor.description(), "editable_layers": list(candidate.layers)},
            f"{harm.num_images} images that are not edited" if harm else "",
            {"error_before": harm.error_before, "error_after": harm.error_after} if harm else {},
            names,
            labels=self.asked.tolist(),
            harm=kept.Harm("broken", len(harm.broken), harm.num_images, harm.bound, harm.level) if harm else None,
        )
        unedited = self.given if candidate.editor.own_layers is None else split.network
        types = {name: value.dtype for name, value in tensors_of(unedited).items()}
        return Fix(
            self.asked,
            self.before,
            after,
            classes,
            made.num_steps,
            candidate.editor,
            candidate.layers,
            harm,
            len(self._targets) // len(self.asked) - 1,
            {name: (count, len(self.asked)) for name, count in zip(CHANGES, counts, strict=True)},
            tried,
            tried[chosen],
            EditPatch.of(unedited, {name: value.to(types[name]) for name, value in made.params.items()}, record),
            self.given,
        )

    def _make(self, editor: BaseEditor, split: SplitNetwork) -> Made:
        """Edit all images with their views at once; it holds as a whole, or for no image."""
        with torch.no_grad():
            features = split.prefix(self._together.to(self.device, _dtype(split.params.values())))
        params = {name: param.detach() for name, param in split.params.items()}
        result = editor(split.suffix, params, features, self._targets.to(self.device))
        made = Made(result.params, len(self.images), int(result.num_steps))
        holds = bool(result.success) and is_predicted(self._edited_logits(split, made), self.asked).all()
        return made if holds else made._replace(num_right=0)

    def _placed(self, editor: BaseEditor, split: SplitNetwork) -> BaseEditor:
        return editor.at(EditSite(split, self._reference_batches, self.device))

    def _reference_batches(self, number: int) -> Iterable[tuple[Tensor, Tensor]]:
        if self._references is not None:
            return self._references.batches(range(min(number, len(self._references))))
        return self.judge.batches(self._rest[:number]) if self.judge is not None else ()

    def _edited_logits(self, split: SplitNetwork, made: Made) -> Tensor:
        """Return what the edited network gives for the images, in the network's own precision."""
        own = tensors_of(self.given)
        rounded = {
            name: value.to(own[name].dtype).to(value.dtype) if name in own else value
            for name, value in made.params.items()
        }
        with torch.no_grad():
            features = split.prefix(self.images.to(self.device, _dtype(split.params.values())))
            logits: Tensor = split.suffix(features, rounded)
        return logits.cpu()

    def _each(self) -> Iterator[tuple[int, int]]:
        yield from enumerate(self.asked.tolist())


def _dtype(params: Iterable[Tensor]) -> torch.dtype:
    return next(iter(params)).dtype
