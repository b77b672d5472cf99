"""One call that measures an editor by the published protocol."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from editable.calls.evaluation import Evaluation
from editable.calls.judge import Judge, Judged
from editable.calls.said_once import each_sentence_once
from editable.calls.views import shifted_views
from editable.data import EditStream, RandomLabelEdits
from editable.editing import BaseEditor, EditEvaluator, EditSite, needs_place, split_for, upper_bound
from editable.editing.choosing.candidates import Candidate, layers_for
from editable.errors import UserError, require_at_least
from editable.models.machine.full_precision import full_precision

__all__ = ["evaluate"]


@full_precision()
@each_sentence_once()
def evaluate(
    network: nn.Module,
    loader: Judged,
    editor: BaseEditor,
    *,
    edits: EditStream | None = None,
    num_edits: int = 100,
    layers: str | Sequence[str] | None = None,
    references: Judged | None = None,
    views: int = 8,
    edited_views: int = 0,
) -> Evaluation:
    """Make many edits, each from the unedited network, and measure what they come to on a labelled set of images.

    Args:
        network: A classifier, on any device; it stays as it is.
        loader: Labelled images, as the network gets them: a loader, a data set, or two tensors. From them come the
            edited images, and all of them score each edit, as published.
        editor: Makes the edits.
        edits: Which image gets which label: random labels, as published, by default.
        num_edits: Number of edits.
        layers: Which parameters the editor may change; by default the classifier for a closed form, and the block
            before it for gradients.
        references: Images for an editor that needs others, such as for second moments; by default the loader's own.
        views: Number of further views (shifted, flipped) of each edited image by which generality is judged.
        edited_views: Number of views that are edited with each image.

    Raises:
        UserError: If an argument cannot be meant.

    Example:
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> images, labels = torch.randn(40, 1, 2, 2), torch.randint(3, (40,))
        >>> evaluate(network, (images, labels), Editor(RMSProp(0.01)), layers="1", num_edits=5, views=0).num_edits
        5
    """
    require_at_least(1, num_edits=num_edits)
    require_at_least(0, views=views, edited_views=edited_views)
    judge = Judge(loader, "loader")
    named = list(layers_for(editor, network, layers))
    judge.fit(network)
    device = next(network.parameters()).device
    split = split_for(editor, network, named)
    editor = editor.to(device)
    if needs_place(editor):
        others = judge if references is None else Judge(references, "references")
        editor = editor.at(EditSite(split, lambda number: others.batches(range(min(number, len(others)))), device))
    evaluator = EditEvaluator(split, editor, judge.batches(), len(judge), device)
    base = evaluator.measure_base()
    stream = (edits or RandomLabelEdits())(base.labels, base.predictions, base.num_classes, num_edits)
    if not len(stream.indices):
        raise UserError("there is nothing to edit: edits chooses no image")
    seen = _Views(judge, views + edited_views) if views + edited_views else None
    found = evaluator.score(_Images(judge), *stream, views=seen, num_edited_views=edited_views)
    evaluator.close()
    rises = (found.errors_after - evaluator.errors_before).double() / evaluator.num_images
    succeeded, number = int(found.success.sum()), len(found.success)
    return Evaluation(
        number,
        evaluator.num_images,
        (
            succeeded / number,
            1 - float(upper_bound(number - succeeded, number, 0.975)),
            float(upper_bound(succeeded, number, 0.975)),
        ),
        _mean(found.num_steps.double()),
        evaluator.errors_before / evaluator.num_images,
        _mean(rises),
        (_share(found.views_before, views), _share(found.views_after, views)) if views else None,
        Candidate(editor, tuple(named)).title,
    )


class _Images(Dataset[tuple[Tensor]]):
    """The images of a judge, one by one."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge

    def __len__(self) -> int:
        return len(self._judge)

    def __getitem__(self, index: int) -> tuple[Tensor]:
        return (next(iter(self._judge.batches([index])))[0][0],)


class _Views(Dataset[Tensor]):
    """V views of each image of a judge, [V, C, H, W]."""

    def __init__(self, judge: Judge, number: int) -> None:
        self._images, self._number = _Images(judge), number

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Tensor:
        return shifted_views(self._images[index][0][None], self._number, index)[0]


def _mean(values: Tensor) -> tuple[float, float, float]:
    """Return the mean of values [n] and its 95 % interval, by their standard deviation."""
    mean = values.mean()
    half = 1.96 * values.std() / len(values) ** 0.5 if len(values) > 1 else torch.tensor(float("inf"))
    return float(mean), float(mean - half), float(mean + half)


def _share(counts: Tensor, number: int) -> float:
    return float(counts.double().mean()) / number
