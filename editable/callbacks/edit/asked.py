"""What is asked of a network, and made by an editor: all at once, or one after the other."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from editable.callbacks.edit.cause import why_it_failed
from editable.callbacks.edit.sequence import EditSequence, edit_one_by_one
from editable.editing import BaseEditor, EditResult
from editable.editing.choosing.trials import Made
from editable.editing.editors.objective import is_predicted
from editable.models import Features, SplitNetwork

__all__ = ["AskedEdits", "logits_of_images"]


@dataclass(frozen=True)
class AskedEdits:
    """N images that shall get labels, each with v views that are edited with it.

    Attributes:
        images: [N, C, H, W].
        views: [N, v, C, H, W].
        labels: int64 [N].
        one_by_one: Whether each image is an edit of its own, on top of the last.
    """

    images: Tensor
    views: Tensor
    labels: Tensor
    one_by_one: bool

    @property
    def together(self) -> Tensor:
        """All images, and behind them all views, [N (1 + v), C, H, W]."""
        return torch.cat([self.images, self.views.flatten(0, 1)])

    @property
    def targets(self) -> Tensor:
        """Their labels, int64 [N (1 + v)]."""
        return torch.cat([self.labels, self.labels.repeat_interleave(self.views.shape[1])])

    def at_once(self, editor: BaseEditor, split: SplitNetwork) -> EditResult:
        """Make one edit of all; it succeeds where all images and views have their labels."""
        params = _detached(split)
        result = editor(split.suffix, params, _features(split, self.together), self.targets.to(_device(params)))
        right = is_predicted(logits_of_images(split, self.together, result.params), self.targets).all()
        return result._replace(success=result.success.cpu() & right)

    def failure(self, split: SplitNetwork, result: EditResult) -> str:
        """Return why one edit of all did not succeed, and what to do."""
        features, params = _features(split, self.together), _detached(split)
        right = is_predicted(logits_of_images(split, self.images, result.params), self.labels)
        cause = why_it_failed(
            result,
            lambda own: split.suffix(features, own),
            params,
            self.targets.to(_device(params)),
            bool(self.views.shape[1]),
        )
        return (
            f"the edit does not succeed in {int(result.num_steps)} steps, after which {int(right.sum())} of "
            f"{len(self.labels)} images have the labels asked for; {cause}"
        )

    def in_turn(self, editor: BaseEditor, split: SplitNetwork) -> EditSequence:
        """Make an edit of each image, on top of the last."""
        params = _detached(split)
        edits = [
            (_features(split, torch.cat([image[None], views])), label.expand(1 + len(views)).to(_device(params)))
            for image, views, label in zip(self.images, self.views, self.labels, strict=True)
        ]
        return edit_one_by_one(editor, split.suffix, params, edits)

    def make(self, editor: BaseEditor, split: SplitNetwork) -> Made:
        """Make what is asked, and count the images that have their labels; at once, an edit holds for all or none."""
        if not self.one_by_one:
            result = self.at_once(editor, split)
            return Made(result.params, len(self.labels) if result.success else 0, int(result.num_steps))
        sequence = self.in_turn(editor, split)
        right = is_predicted(logits_of_images(split, self.images, sequence.params), self.labels)
        return Made(sequence.params, int(right.sum()) if sequence.made.any() else 0, sequence.num_steps)


@torch.no_grad()
def logits_of_images(split: SplitNetwork, images: Tensor, params: Mapping[str, Tensor]) -> Tensor:
    """Return logits [N, classes] of images [N, C, H, W] by some parameters, on the CPU."""
    logits: Tensor = split.suffix(_features(split, images), params)
    return logits.cpu()


@torch.no_grad()
def _features(split: SplitNetwork, images: Tensor) -> Features:
    first = next(iter(split.params.values()))
    return split.prefix(images.to(first.device, first.dtype))


def _detached(split: SplitNetwork) -> dict[str, Tensor]:
    return {name: param.detach() for name, param in split.params.items()}


def _device(params: Mapping[str, Tensor]) -> torch.device:
    return next(iter(params.values())).device
