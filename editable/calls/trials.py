"""Candidates' edits of a network, each made from the unedited one and looked at."""

import copy
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import editable.editing.patches.record as kept
from editable.calls.candidates import Candidate
from editable.calls.fix import Fix, Tried
from editable.calls.judge import Judge, halves
from editable.calls.running import logits_on
from editable.calls.views import shifted_views
from editable.data.images.same_images import SameImages
from editable.data.modules.changed_views import CHANGES, ChangedViews
from editable.editing import (
    Cost,
    EditPatch,
    EditRecord,
    EditResult,
    EditSite,
    StreamEvaluator,
    needs_place,
    split_for,
)
from editable.editing.editors.objective import is_predicted
from editable.errors import UserError
from editable.models.logits import require_logits

__all__ = ["Trials"]

FULL = (torch.float32, torch.float64)


class Trials:
    """Makes candidates' edits of a network and looks at each."""

    def __init__(
        self, network: nn.Module, images: Tensor, asked: Tensor, judge: Judge | None, references: Judge | None
    ) -> None:
        self.given, self.images, self.asked, self.judge, self._references = network, images, asked, judge, references
        first = next(network.parameters(), None)
        if first is None:
            raise UserError(f"{type(network).__name__} has no parameters that an edit could change")
        self.device = first.device
        self.network = network if first.dtype in FULL else copy.deepcopy(network).float()
        self.positions = torch.zeros(0, dtype=torch.int64)
        self._evaluators: dict[Any, StreamEvaluator] = {}

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
        if self.judge is None:
            return
        self._judged, rest = halves(len(self.judge), self._references is None, seed)
        self._rest = rest.tolist()

    def run(self, candidate: Candidate) -> tuple[EditResult | None, Cost | None, str]:
        """Return a candidate's edit if it succeeds, and what it costs if there is a judge; else why it cannot be."""
        try:
            if candidate.editor.own_layers is not None and self.network is not self.given:
                raise UserError("a layer of the editor's own needs a network in full precision")
            evaluator = self._evaluator(candidate)
            split = evaluator.split
            editor = candidate.editor.to(self.device).with_strict_success()
            if needs_place(editor):
                editor = editor.at(EditSite(split, self._reference_batches, self.device))
            with torch.no_grad():
                features = split.prefix(self._together.to(self.device, _dtype(split.params.values())))
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", ".* do not get their labels")  # it is told of the candidate
                params = {name: param.detach() for name, param in split.params.items()}
                result = editor(split.suffix, params, features, self._targets.to(self.device))
        except UserError as error:
            return None, None, str(error)
        if not result.success or not is_predicted(self._edited_logits(split, result), self.asked).all():
            return None, None, ""
        return result, evaluator.cost(result.params, self._others) if self.judge is not None else None, ""

    def fix(
        self, candidate: Candidate, result: EditResult, tried: list[Tried], chosen: int, names: list[str] | None
    ) -> Fix:
        """Return what is told of the chosen edit."""
        split = self._evaluator(candidate).split
        after = self._edited_logits(split, result).float().softmax(dim=-1)
        classes = names or [str(label) for label in range(after.shape[1])]
        if len(classes) != after.shape[1]:
            raise UserError(f"classes has {len(classes)} names, but the network has {after.shape[1]} classes")
        with torch.no_grad():
            seen = split.prefix(self._changed.flatten(0, 1).to(self.device, _dtype(split.params.values())))
            held = is_predicted(split.suffix(seen, result.params).cpu(), self.asked.repeat_interleave(len(CHANGES)))
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
        types = {name: value.dtype for name, value in unedited.state_dict().items()}
        return Fix(
            self.asked,
            self.before,
            after,
            classes,
            int(result.num_steps),
            candidate.editor,
            candidate.layers,
            harm,
            len(self._targets) // len(self.asked) - 1,
            {name: (count, len(self.asked)) for name, count in zip(CHANGES, counts, strict=True)},
            tried,
            tried[chosen],
            EditPatch.of(unedited, {name: value.to(types[name]) for name, value in result.params.items()}, record),
            self.given,
        )

    def _evaluator(self, candidate: Candidate) -> StreamEvaluator:
        """Return what judges edits of some layers; the judge's images are run through the unedited network once."""
        key = type(candidate.editor) if candidate.editor.own_layers is not None else candidate.layers
        if key not in self._evaluators:
            split = split_for(candidate.editor, self.network, candidate.layers)
            evaluator = StreamEvaluator(split, candidate.editor, self.device)
            if self.judge is not None:
                same, found = SameImages(self._together), []

                def batches(judge: Judge) -> Iterator[tuple[Tensor, Tensor]]:
                    for images, labels in judge.batches(self._judged.tolist()):
                        found.append(same(images.cpu()))
                        yield images, labels

                base = evaluator.measure_base(batches(self.judge), len(self._judged))
                if int(base.labels.max()) >= base.num_classes or int(base.labels.min()) < 0:
                    raise UserError(f"judge has the label {int(base.labels.max())}, which is none of the network's")
                self._others = (~torch.cat(found)).nonzero().flatten()
                self.positions = self._judged[self._others]
                if not len(self.positions):
                    raise UserError("judge has no images but those that are edited: give others")
            self._evaluators[key] = evaluator
        return self._evaluators[key]

    def _reference_batches(self, number: int) -> Iterable[tuple[Tensor, Tensor]]:
        if self._references is not None:
            return self._references.batches(range(min(number, len(self._references))))
        return self.judge.batches(self._rest[:number]) if self.judge is not None else ()

    def _edited_logits(self, split: Any, result: EditResult) -> Tensor:
        """Return what the edited network gives for the images, in the network's own precision."""
        own = self.given.state_dict()
        rounded = {
            name: value.to(own[name].dtype).to(value.dtype) if name in own else value
            for name, value in result.params.items()
        }
        with torch.no_grad():
            features = split.prefix(self.images.to(self.device, _dtype(split.params.values())))
            logits: Tensor = split.suffix(features, rounded)
        return logits.cpu()

    def _each(self) -> Iterator[tuple[int, int]]:
        yield from enumerate(self.asked.tolist())


def _dtype(params: Iterable[Tensor]) -> torch.dtype:
    return next(iter(params)).dtype
