"""Judging edits on a data set: each edit starts from the base network, each edited network sees the same images."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from editable.data.turns import Turns, told
from editable.editing.editors.base import BaseEditor
from editable.editing.editors.objective import is_predicted
from editable.editing.editors.result import EditResult
from editable.editing.evaluation.estimate import DrawdownEstimate
from editable.editing.evaluation.feature_store import FeatureStore
from editable.editing.evaluation.outcomes import BasePredictions, EditOutcomes, EditProgress
from editable.editing.evaluation.sampler import DrawdownSampler
from editable.editing.evaluation.sampling_settings import SamplingSettings
from editable.editing.evaluation.scoring import BaseScores, Scorer, leads, margins
from editable.editing.evaluation.together import Together
from editable.editing.graphs.static_edits import many_edits
from editable.errors import UserError, require_at_least, require_positive, require_within
from editable.models import Features, ScoringSettings, SplitNetwork
from editable.models.machine.devices import budget_in_bytes, to_device
from editable.models.machine.full_precision import full_precision
from editable.models.split.form_table import are_large

__all__ = ["EditEvaluator"]


class EditEvaluator:
    """Makes edits and scores each edited network: on the scoring images, and on views of the edited input.

    Every edit starts from the base network. Prefix features of the scoring images are computed once and kept, in memory
    where they fit into half of the budget, else on disk. The suffix runs over them in its scoring form: images outside,
    edited networks inside. Running statistics are used; the network is not changed.

    Args:
        split: The network, split at its first editable parameter.
        editor: Makes the edits.
        batches: Batches (images [N, C, H, W], labels [N]) of the data set; read once.
        num_images: Number of images in all batches together.
        device: Where the network lives.
        image_stride: Score on images 0, s, 2s, … of the data set (the published ImageNet protocol takes every tenth).
        edits_at_once: Number of edits computed together by the editor, fewer where the memory budget does not hold
            them, and 1 on a CPU where each changes more than 12 MiB; 1 repeats a loop over single edits bit for bit.
        memory_budget: In GiB, for kept features and edited parameters together; by default half of what a CUDA device
            has left, 4 elsewhere.
        scoring: How edited networks are run on the scoring images; by default what is fastest in full precision.
        sampling: Look at a random part of the scoring images for each edit; by default at all of them.
        folder: Where features that do not fit into memory are kept; by default the system's temporary folder.
        sensitive_margin: A scoring image is sensitive if the base network gets it right and its largest probability is
            less than this above its second largest; 0 makes none sensitive.
        turns: Where several processes read the data set: ``batches`` are those of this one's turns alone. By default
            they are all.

    Attributes:
        editor: Makes the edits; may be replaced by another one between two calls of :meth:`score`.
        num_images: Number of scoring images.
        num_sensitive: How many of them are sensitive.
        errors_before: How many of them the base network gets wrong.
        estimate: Where images were sampled: the drawdown of the edits scored last, with its interval.

    Raises:
        UserError: If a number is out of its range.
    """

    def __init__(
        self,
        split: SplitNetwork,
        editor: BaseEditor,
        batches: Iterable[tuple[Tensor, Tensor]],
        num_images: int,
        device: torch.device,
        image_stride: int = 1,
        edits_at_once: int = 8,
        memory_budget: float | None = None,
        scoring: ScoringSettings | None = None,
        sampling: SamplingSettings | None = None,
        folder: Path | None = None,
        sensitive_margin: float = 0.05,
        turns: Turns | None = None,
    ) -> None:
        require_at_least(1, num_images=num_images, image_stride=image_stride, edits_at_once=edits_at_once)
        require_positive(memory_budget=memory_budget)
        require_within("[0, 1]", sensitive_margin=sensitive_margin)
        self.split, self.editor, self.batches, self.device = split, editor, batches, device
        self.image_stride, self.edits_at_once = image_stride, edits_at_once
        self.scoring = (scoring or ScoringSettings.for_device(device)).on(device)
        self.sampling, self.sensitive_margin = sampling, sensitive_margin
        self.turns, self._num_all = turns, num_images
        self.num_images = -(-num_images // image_stride)
        self.num_sensitive = self.errors_before = 0
        self.estimate: DrawdownEstimate | None = None
        self._budget = budget_in_bytes(device, memory_budget)
        self._params = {name: param.detach() for name, param in split.params.items()}
        memory_format = torch.channels_last if self.scoring.channels_last else torch.contiguous_format
        self._store = FeatureStore(self.num_images, self._budget // 2, device, folder, memory_format)
        self._scorer: Scorer | None = None
        self._graphs = self.scoring.graphs_on(device)
        self._edit_many: Callable[..., EditResult] = editor.edit_many
        self._edits = Together(self._num_together(), "edits", "edits_at_once")

    @full_precision()
    @torch.no_grad()
    def measure_base(self, progress: Callable[[int], object] = lambda images: None) -> BasePredictions:
        """Run the base network over the whole data set once; to be called before :meth:`score`, and once.

        Keeps the prefix features of the scoring images, and sets ``errors_before`` and ``num_sensitive``.

        Args:
            progress: Called with the number of images done since the last call.

        Raises:
            UserError: If logits are not finite, there are more images than announced, or features fit neither into
                memory nor on disk.
        """
        parts: list[BaseScores] = []
        position, num_classes = 0, 0
        for targets, logits, *features in self._base_batches():
            if not logits.isfinite().all():
                raise UserError(
                    f"the network's logits are NaN or infinite from image {position} on, or of one of the "
                    f"{len(targets)} after it, before any edit: look at its weights and its precision, and at the mean "
                    "and std of the data"
                )
            scoring = slice(-position % self.image_stride, None, self.image_stride)
            self._store.add(tuple(features), targets[scoring])
            own = margins(logits, to_device(targets, self.device))
            parts.append(BaseScores(targets, logits.argmax(dim=-1), own, leads(logits)))
            position += len(targets)
            num_classes = logits.shape[-1]
            progress(len(targets))
        everything = BaseScores(*(torch.cat(field).cpu() for field in zip(*parts, strict=True)))
        base = BaseScores(*(field[:: self.image_stride] for field in everything))
        self._scorer = Scorer(self.split, self._store, self.scoring, base, self.sensitive_margin, self._graphs)
        self.errors_before, self.num_images, self.num_sensitive = map(int, self._scorer.unedited)
        return BasePredictions(everything.labels, everything.predictions, num_classes)

    def _base_batches(self) -> Iterator[tuple[Tensor, ...]]:
        """Yield labels, logits and features of the scoring images of each batch, in order.

        Of batches that other processes read, what these tell: no process looks at more than its share of the images.
        """
        own, position = iter(self.batches), 0
        if self.turns is None:
            for images, targets in own:
                yield self._run_base(images, targets, position)
                position += len(targets)
            return
        first, step = self.turns.rank * self.turns.batch_size, self.turns.number * self.turns.batch_size
        for start in range(0, self._num_all, step):
            here = start + first < self._num_all
            made = self._run_base(*next(own), start + first) if here else None
            yield from told(made, self.device)

    def _run_base(self, images: Tensor, targets: Tensor, position: int) -> tuple[Tensor, ...]:
        """Run the base network on a batch that begins at a position of the data set; see `_base_batches`."""
        features = self._prefix(images)
        scoring = slice(-position % self.image_stride, None, self.image_stride)
        logits = self.split.suffix(features, self._params)
        return targets, logits, *(feature[scoring] for feature in features)

    @full_precision()
    def score(
        self,
        dataset: Dataset,
        indices: Tensor,
        labels: Tensor,
        progress: Callable[[float], object] = lambda edits: None,
        total_edits: int | None = None,
        rank: int = 0,
        views: Dataset | None = None,
        num_edited_views: int = 0,
        leave_out_edited: bool = False,
        finished: EditProgress | None = None,
        keep: Callable[[EditProgress], object] = lambda progress: None,
    ) -> EditOutcomes:
        """Make E edits and score each edited network.

        Args:
            dataset: Its items begin with an image [C, H, W].
            indices: Positions of the edited inputs in it, int64 [E].
            labels: The labels asked for, int64 [E].
            progress: Called with the number of edits done since the last call, a fraction at a time.
            total_edits: Number of edits of all ranks together, which the sampling settings are for; by default E.
            rank: Of this process, so that each draws other images.
            views: Its items are views of the images at the same positions of ``dataset``, [V, C, H, W], such as
                :class:`editable.data.AugmentedViews`; by default, edited networks see no views.
            num_edited_views: How many of the V views, the last ones, get the label together with the input, by one edit
                of all; the others tell whether it holds for them.
            leave_out_edited: Count an edited input among the scoring images as if its edit had not changed it, so that
                harm is that on other images; the published protocol counts it like any other.
            finished: What the same evaluation has done already: the first of the edits, which are not made again.
            keep: Called after each group of edits with all that is done.

        Raises:
            UserError: If the base network was not measured first.
        """
        if self._scorer is None:
            raise UserError("edits are scored against the base network: call measure_base before score")
        self._edit_many = many_edits(self.editor, self._graphs)
        sampler = None
        if self.sampling and len(indices):
            sampler = DrawdownSampler(
                self._scorer.base.margins,
                len(indices),
                self.sampling.forward_passes,
                self.sampling.half_width,
                total_edits,
                seed=self.sampling.seed + rank,
            )
        kind = torch.float64 if self.sampling else torch.int64
        kinds = (torch.bool, torch.int64, kind, kind, kind, torch.int64, torch.int64)
        outcomes = [EditOutcomes(*(torch.zeros(0, dtype=dtype) for dtype in kinds))]
        if finished is not None and len(finished.outcomes.success):
            outcomes.append(finished.outcomes)
            progress(len(finished.outcomes.success))
            if sampler:
                sampler.load_state_dict(finished.sampler)
        rest = torch.arange(sum(len(some.success) for some in outcomes), len(indices))
        for group in rest.split(self._group_size) if len(rest) else ():
            make = partial(self._make_some, dataset, views, num_edited_views, indices[group], labels[group])
            made = [some for _, some in self._edits.run(make, len(group))]
            edited = [params for some, _ in made for params in some]
            success, num_steps, *held = (torch.cat(field) for field in zip(*(some for _, some in made), strict=True))
            changed = num_steps.nonzero().flatten().tolist()  # an edit of 0 steps leaves the base network as it is
            some = [edited[edit] for edit in changed]
            progress(len(group) - len(changed))
            scores = [torch.full((len(group),), int(value), dtype=kind) for value in self._scorer.unedited]
            if sampler:
                sampler.skip(len(group) - len(changed))
            if some:
                own = self._places(indices[group][changed]) if leave_out_edited else None
                scorer = self._scorer
                found = scorer.sample(sampler, some, progress, own) if sampler else scorer.score(some, progress, own)
                for field, values in zip(scores, found, strict=True):
                    field[changed] = values
            outcomes = [_joined([*outcomes, EditOutcomes(success, num_steps, *scores, *held)])]
            keep(EditProgress(outcomes[0], sampler.state_dict() if sampler else {}))
        self.estimate = sampler.estimate() if sampler else None
        return _joined(outcomes)

    def close(self) -> None:
        """Let go of the kept features, in memory and on disk."""
        self._store.close()

    @property
    def spilled(self) -> bool:
        """Whether the kept features lie on disk."""
        return self._store.spilled

    @property
    def num_rechecked(self) -> int:
        """How often an image was scored again in full precision, over all edits so far."""
        return self._scorer.num_rechecked if self._scorer else 0

    def _num_together(self) -> int:
        """How many edits are computed together: at most those that fit into the half of the budget without features.

        While it is made, an edit holds about six sets of parameters: its own, their gradients, two of the rule's state,
        and the next values of the first and the last. On a CPU, large ones are made one by one.
        """
        if are_large(self._params):
            return 1
        bytes_per_edit = 6 * sum(param.nbytes for param in self._params.values())
        return min(self.edits_at_once, max(1, self._budget // 2 // bytes_per_edit))

    @property
    def _group_size(self) -> int:
        """How many edited networks are held to be scored on the same features.

        Features in memory cost nothing to look at again; those on disk are read once for each group, so it is large:
        five sets of parameters for each network, its own and, by Winograd's algorithm, four times as many, and nine
        bytes for its prediction on each image.
        """
        if not self._store.spilled or self.sampling:
            return self._edits.number
        bytes_per_edit = 5 * sum(param.nbytes for param in self._params.values()) + 9 * self.num_images
        return max(self._edits.number, self._budget // 2 // bytes_per_edit)

    def _places(self, indices: Tensor) -> Tensor:
        """Return where inputs of the data set stand among the scoring images, int64 [n]; −1 where they do not."""
        return torch.where(indices % self.image_stride == 0, indices // self.image_stride, -1)

    def _make_some(
        self,
        dataset: Dataset,
        views: Dataset | None,
        num_edited_views: int,
        indices: Tensor,
        labels: Tensor,
        part: slice,
    ) -> tuple[list[dict[str, Tensor]], list[Tensor]]:
        return self._make(*_samples(dataset, views, num_edited_views, indices[part]), labels[part])

    def _make(self, samples: Tensor, views: Tensor, labels: Tensor) -> tuple[list[dict[str, Tensor]], list[Tensor]]:
        """Make E edits at once.

        Args:
            samples: What each edit gives its label to, [E, N, ...].
            views: What tells whether it holds for more, [E, V, ...].
            labels: Asked for, int64 [E].

        Returns:
            The edited parameters of each, and, each [E]: success, number of steps, and how many of the views have the
            label before and after.
        """
        with torch.no_grad():
            features = self._prefix(samples.flatten(0, 1))
        inputs = tuple(feature.unflatten(0, samples.shape[:2]) for feature in features)
        targets = labels.unsqueeze(1).expand(samples.shape[:2])
        suffix = self.split.suffix if len(targets) == 1 else self.split.edit_suffix
        result = self._edit_many(suffix, self._params, inputs, targets)
        edited = [{name: stacked[edit] for name, stacked in result.params.items()} for edit in range(len(samples))]
        success, num_steps = torch.stack([result.success.long(), result.num_steps]).cpu()  # in one wait
        return edited, [success.bool(), num_steps, *self._count_views(views, labels, edited, num_steps)]

    @torch.no_grad()
    def _count_views(
        self, views: Tensor, labels: Tensor, edited: list[dict[str, Tensor]], num_steps: Tensor
    ) -> list[Tensor]:
        """Count the views [E, V, ...] that have the label their edit asks for, before and after, int64 [E] both."""
        if not views.shape[1]:
            return [torch.zeros_like(num_steps)] * 2
        features = self._prefix(views.flatten(0, 1))
        asked = to_device(labels, self.device).unsqueeze(1).expand(views.shape[:2])
        before = is_predicted(self.split.suffix(features, self._params), asked.flatten()).view(views.shape[:2])
        after = before.clone()
        for edit in num_steps.nonzero().flatten().tolist():
            own = slice(edit * views.shape[1], (edit + 1) * views.shape[1])
            logits = self.split.suffix(tuple(feature[own] for feature in features), edited[edit])
            after[edit] = is_predicted(logits, asked[edit])
        return list(torch.stack([before, after]).sum(dim=2).cpu())

    def _prefix(self, images: Tensor) -> Features:
        """Return prefix features, computed on the network's device and in its precision."""
        dtype = next(iter(self._params.values())).dtype
        return self.split.prefix(to_device(images, self.device, dtype))


def _joined(parts: list[EditOutcomes]) -> EditOutcomes:
    return EditOutcomes(*(torch.cat(field) for field in zip(*parts, strict=True)))


def _samples(dataset: Dataset, views: Dataset | None, num_edited_views: int, indices: Tensor) -> tuple[Tensor, Tensor]:
    """Return what is edited, [E, 1 + edited views, ...], and the views that judge the edits, [E, V, ...]."""
    images = torch.stack([torch.as_tensor(dataset[index][0]) for index in indices.tolist()]).unsqueeze(1)
    if views is None:
        return images, images[:, :0]
    seen = torch.stack([torch.as_tensor(views[index]) for index in indices.tolist()])
    judged, edited = seen.tensor_split([seen.shape[1] - num_edited_views], dim=1)
    return torch.cat([images, edited], dim=1), judged
