"""Edited networks on the scoring images: all of them or a random sample, compared with labels and base network."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from editable.editing.evaluation.feature_store import FeatureStore
from editable.editing.evaluation.low_rank_scoring import low_rank_changes, predict_low_rank
from editable.editing.evaluation.sampler import DrawdownSampler
from editable.editing.evaluation.together import Together
from editable.models import Features, ScoringForm, ScoringSettings, SplitNetwork, Weights, linear_tail
from editable.models.machine.devices import to_device
from editable.models.machine.full_precision import same_shapes
from editable.models.machine.graphs import Graphs

__all__ = ["BaseScores", "Scorer", "Scores", "leads", "margins"]


class BaseScores(NamedTuple):
    """What the base network makes of the N scoring images; all fields have shape [N] and lie on the CPU.

    Attributes:
        labels: True labels, int64.
        predictions: Predicted labels, int64.
        margins: The true label's logit minus the largest other one; see :func:`margins`.
        leads: The largest probability minus the second largest; see :func:`leads`.
    """

    labels: Tensor
    predictions: Tensor
    margins: Tensor
    leads: Tensor

    @property
    def wrong(self) -> Tensor:
        """Which images are misclassified, bool [N]."""
        return self.predictions != self.labels


class Scores(NamedTuple):
    """What E edited networks make of the scoring images, as numbers of images; all fields have shape [E], on the CPU.

    int64 where all images were looked at, float64 where the numbers are unbiased estimates from a sample.

    Attributes:
        errors: Misclassified images.
        agreeing: Images with the base network's prediction.
        sensitive_agreeing: Sensitive images with the base network's prediction.
    """

    errors: Tensor
    agreeing: Tensor
    sensitive_agreeing: Tensor


class Scorer:
    """Runs edited networks over kept features.

    Where one linear layer alone is edited and all behind it is linear, edits that have changed it by a low rank are
    scored as one product instead (with ``settings.simplify``), on CUDA in the precision asked for, and predictions that
    rounding could decide are made again by running the network.

    With ``settings.recheck``, a prediction in low precision is made again in full precision where it is in doubt
    whether it is the true label. So numbers of errors and of agreeing images that the base network gets right are those
    of full precision; of two wrong labels that nearly tie, low precision may take the other one.

    Args:
        split: The network, split at its first editable parameter.
        store: Prefix features of the scoring images.
        settings: How edited networks are run on them.
        base: What the base network makes of them.
        sensitive_margin: An image that the base network gets right is sensitive if its lead is below this.
        graphs: Where batches are recorded; by default where the settings say.

    Attributes:
        base: As given.
        sensitive: Which images are sensitive, bool [N].
        num_rechecked: Number of images looked at again in full precision, over all edits so far.
    """

    def __init__(
        self,
        split: SplitNetwork,
        store: FeatureStore,
        settings: ScoringSettings,
        base: BaseScores,
        sensitive_margin: float,
        graphs: Graphs | None = None,
    ) -> None:
        sample, _ = store.rows(torch.arange(min(2, len(store))))
        self.base, self.settings = base, settings
        self.sensitive = ~base.wrong & (base.leads < sensitive_margin)
        self.num_rechecked = 0
        self._store = store
        graphs = graphs or settings.graphs_on(store.device)
        self._exact = self._fast = ScoringForm(split, sample, settings.in_full_precision(), graphs)
        self._edits = Together(settings.edits_together, "edited networks", "scoring.edits_together")
        self._images = Together(max(1, len(store)), "images", "scoring.batch_size")
        self._tail = linear_tail(split, sample) if settings.simplify and len(store) else None
        # On a processor these products are bound by what they write, and full precision costs nothing.
        self._low = torch.bfloat16 if settings.precision == "bfloat16" and store.device.type == "cuda" else None
        self._doubtful_below = 0.0
        if settings != settings.in_full_precision():
            self._fast = ScoringForm(split, sample, settings, graphs)
            if settings.recheck:
                self._doubtful_below = settings.recheck * self._largest_deviation()

    @property
    def unedited(self) -> Scores:
        """Scores of the base network, scalars."""
        num_images, num_sensitive = torch.tensor(len(self.sensitive)), self.sensitive.sum()
        return Scores(self.base.wrong.sum(), num_images, num_sensitive)

    def score(
        self, edited: list[dict[str, Tensor]], progress: Callable[[float], object], own: Tensor | None = None
    ) -> Scores:
        """Score edited networks on all scoring images.

        Args:
            edited: Their parameters.
            progress: Called with the number of edits done since the last call.
            own: Position of each one's edited input among the scoring images, int64 [E], or −1: this image is counted
                as if the edit had not changed it.
        """
        predictions = self._predict(edited, progress).cpu()
        predictions = self._without_own(predictions, torch.arange(len(self._store)), own)
        agrees = predictions == self.base.predictions
        return Scores(
            (predictions != self.base.labels).sum(dim=1), agrees.sum(dim=1), agrees[:, self.sensitive].sum(dim=1)
        )

    def sample(
        self,
        sampler: DrawdownSampler,
        edited: list[dict[str, Tensor]],
        progress: Callable[[float], object],
        own: Tensor | None = None,
    ) -> Scores:
        """Estimate the scores of edited networks, at least one, from random images; see :meth:`score`."""
        draws = (sampler.draw,) if len(sampler.drawdowns) else (sampler.draw_pilot, sampler.draw)
        for draw in draws:
            sample = draw(len(edited))
            indices = sample.indices
            predictions = torch.stack(
                [self._predict_exactly(params, some) for params, some in zip(edited, indices, strict=True)]
            ).cpu()
            predictions = self._without_own(predictions, indices, own)
            wrong = predictions != self.base.labels[indices]
            drawdowns = sampler.update(sample, wrong.long() - self.base.wrong[indices].long())
        progress(len(edited))
        changed = predictions != self.base.predictions[indices]
        errors, num_images, num_sensitive = self.unedited
        return Scores(
            errors + drawdowns * num_images,
            num_images * (1 - sampler.shares(sample, changed)),
            num_sensitive - num_images * sampler.shares(sample, changed & self.sensitive[indices]),
        )

    def _without_own(self, predictions: Tensor, indices: Tensor, own: Tensor | None) -> Tensor:
        """Return predictions [E, n] on images at positions [n] or [E, n], with the base network's on edited inputs."""
        if own is None:
            return predictions
        return torch.where(indices == own[:, None], self.base.predictions[indices], predictions)

    def _predict(self, edited: list[dict[str, Tensor]], progress: Callable[[float], object]) -> Tensor:
        """Return predictions on all scoring images, int64 [E, N]."""
        if self._tail is None or not edited:
            return self._predict_by_running(edited, progress)
        changes, on_device = low_rank_changes(self._tail, edited)
        fits = on_device.cpu()
        found, doubtful = predict_low_rank(self._tail, self._store, changes, progress, self._low)
        self._look_again([params for params, fit in zip(edited, fits.tolist(), strict=True) if fit], found, doubtful)
        rest = [params for params, fit in zip(edited, fits.tolist(), strict=True) if not fit]
        order = torch.cat([fits.nonzero().flatten(), (~fits).nonzero().flatten()])
        predictions = torch.cat([found, self._predict_by_running(rest, progress)])
        return predictions.index_select(0, to_device(order.argsort(), predictions.device))

    @same_shapes()
    @torch.no_grad()
    def _predict_by_running(self, edited: list[dict[str, Tensor]], progress: Callable[[float], object]) -> Tensor:
        """Return what `_predict` does: images outside, edited networks inside."""
        weights = [self._fast.prepare(params) for params in edited]
        predictions = torch.zeros(len(edited), len(self._store), dtype=torch.int64, device=self._store.device)
        doubtful = torch.zeros_like(predictions, dtype=torch.bool)
        position = 0
        for features, targets in self._store.batches(self._fast.batch_size) if edited else ():
            images = slice(position, position + len(targets))
            for edits, logits in self._edits.run(partial(self._run, features, weights), len(edited)):
                predictions[edits, images] = logits.argmax(dim=-1)
                if self._doubtful_below:
                    deviations = margins(logits, targets.expand(len(logits), -1)).abs()
                    doubtful[edits, images] = deviations < self._doubtful_below
                progress(len(logits) * len(targets) / len(self._store))
            position += len(targets)
        if self._doubtful_below:
            self._look_again(edited, predictions, doubtful)
        return predictions

    def _look_again(self, edited: list[dict[str, Tensor]], predictions: Tensor, doubtful: Tensor) -> None:
        """Put what full precision predicts in the place of predictions [E, N] that are in doubt."""
        doubtful = doubtful.cpu()  # one wait for all that follows
        for edit in doubtful.any(dim=1).nonzero().flatten().tolist():
            again = doubtful[edit].nonzero().flatten()
            self.num_rechecked += len(again)
            predictions[edit, to_device(again, predictions.device)] = self._predict_exactly(edited[edit], again)

    def _run(self, features: Features, weights: list[Weights], edits: slice) -> Tensor:
        """Return logits [E, N, C] of some edited networks; of one alone, for fewer images at once if it has to be."""
        some = weights[edits]
        if len(some) > 1:
            return self._fast.run_together(features, some)
        return self._of_parts(self._fast, features, some[0]).unsqueeze(0)

    def _of_parts(self, form: ScoringForm, features: Features, weights: Weights) -> Tensor:
        """Return logits [N, C] of one network."""

        def part(images: slice) -> Tensor:
            return form(tuple(feature[images] for feature in features), weights)

        parts = [logits for _, logits in self._images.run(part, len(features[0]))]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    @torch.no_grad()
    def _predict_exactly(self, params: dict[str, Tensor], indices: Tensor) -> Tensor:
        """Return one edited network's predictions on some scoring images, in full precision; int64 [n]."""
        weights = self._exact.prepare(params)
        predictions = [torch.zeros(0, dtype=torch.int64, device=self._store.device)]
        for part in indices.split(self._exact.batch_size) if len(indices) else ():
            features, _ = self._store.rows(part)
            predictions.append(self._of_parts(self._exact, features, weights).argmax(dim=-1))
        return torch.cat(predictions)

    @torch.no_grad()
    def _largest_deviation(self) -> float:
        """Return the largest change of a margin by the lower precision, on the base network."""
        unedited = self._fast.prepare({})
        found = [
            margins(self._of_parts(self._fast, features, unedited), targets)
            for features, targets in self._store.batches(self._fast.batch_size)
        ]
        return float((torch.cat(found).cpu() - self.base.margins).abs().max())


def margins(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the true label's logit minus the largest other one: at least 0 where the prediction is right.

    Args:
        logits: [..., C].
        targets: True labels, int64 [...].
    """
    targets = targets.unsqueeze(-1)
    others = logits.scatter(-1, targets, -torch.inf)
    return logits.gather(-1, targets).squeeze(-1) - others.amax(dim=-1)


def leads(logits: Tensor) -> Tensor:
    """Return the largest probability minus the second largest, float32 [...]: how sure a prediction is.

    Args:
        logits: [..., C], C ≥ 2.
    """
    first, second = logits.softmax(dim=-1, dtype=torch.float32).topk(2).values.unbind(dim=-1)
    return first - second
