"""One call that corrects images: what would change, and what it costs, before anything is changed."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from editable.calls.asked import image_batch, label_batch
from editable.calls.fix import Fix
from editable.calls.judge import Judge, Judged, Transform, class_names, transform_of
from editable.calls.request import Request
from editable.calls.said_once import each_sentence_once
from editable.command_line.progress import tracked
from editable.editing import BaseEditor
from editable.editing.choosing.candidates import Candidate, candidates_for, layers_for
from editable.editing.choosing.tried import least_harmful, tell
from editable.errors import UserError, require_at_least, require_seed, require_within
from editable.models.machine.full_precision import full_precision

__all__ = ["best_edit", "edit"]

AUTO = "auto"


@full_precision()
@each_sentence_once()
def edit(
    network: nn.Module,
    images: Any,
    labels: Any,
    *,
    judge: Judged | None = None,
    editor: BaseEditor | str = AUTO,
    layers: str | Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    transform: Transform | None = None,
    references: Judged | None = None,
    views: int = 8,
    level: float = 0.95,
    seed: int = 0,
) -> Fix:
    """Find an edit by which a network gives images the labels asked for; nothing is changed yet.

    Candidates are tried one after the other from the unedited network; of those that give all images their labels, the
    one is chosen that leaves the fewest of the judge's images wrong. What is said of its harm is counted on images that
    are not edited; the bound holds though the candidates were chosen among on them.

    Args:
        network: A classifier, on any device, in full or half precision; it stays as it is.
        images: One or several: paths, PIL images, levels from 0 to 255, or what the network gets, floating-point
            [C, H, W] or [N, C, H, W].
        labels: Classes by name or number, one for each image or one for all.
        judge: Labelled images, as the network gets them: a loader, a data set, or two tensors. Without it nothing is
            known of the harm.
        editor: An editor, or ``"auto"``: closed forms of the classifier, and gradients on the block before it at
            several learning rates.
        layers: Which parameters may be changed; by default the classifier by a closed form, and the block before it by
            gradients.
        classes: Names of the classes by label; by default the judge's, or those in the network's configuration.
        transform: Makes of a picture what the network gets; by default the judge's.
        references: Images, as the judge's, that give what closed forms need besides, such as second moments; by
            default one half of the judge's, drawn by seed, which then judges no more.
        views: Number of views of each image, shifted by up to an eighth and every second one flipped sideways, that
            are edited with it, so that it holds for more; 0 edits the images alone.
        level: Confidence of the bound.
        seed: Of the halves and views.

    Returns:
        The edit, to be looked at and applied.

    Raises:
        UserError: If an argument cannot be meant, or no candidate gives all images their labels.

    Example:
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> fix = edit(network, torch.ones(1, 2, 2), 2, judge=(torch.randn(40, 1, 2, 2), torch.randint(3, (40,))))
        >>> fix.success, fix.network(torch.ones(1, 1, 2, 2)).argmax().item()
        (True, 2)
    """
    require_at_least(0, views=views)
    require_within("(0, 1)", level=level)
    require_seed(seed=seed)
    judging = None if judge is None else Judge(judge)
    names = [*map(str, classes)] if classes is not None else class_names(network, judging)
    samples = image_batch(images, transform or transform_of(judging))
    asked = label_batch(labels, len(samples), names)
    candidates = _candidates(network, editor, layers, judging)
    request = Request(network, samples, asked, judging, None if references is None else Judge(references, "references"))
    request.prepare(views, seed)
    return best_edit(request, candidates, names, level)


def best_edit(request: Request, candidates: Sequence[Candidate], names: list[str] | None, level: float) -> Fix:
    """Try candidates, and return the edit of least harm among those that succeed.

    Args:
        request: Prepared.
        candidates: What is tried.
        names: Of the classes.
        level: Confidence of the bound.

    Raises:
        UserError: If none gives all images their labels.
    """
    number = len(request.asked)
    with tracked(candidates, "candidates") as shown:
        trials = [request.run(candidate) for candidate in shown]
    if request.fault is not None:
        raise request.fault
    tried = tell(trials, request.positions, level)
    chosen = least_harmful(tried)
    if chosen is None:
        raise UserError(
            f"no candidate gives {'the image' if number == 1 else f'all {number} images'} the labels asked "
            f"for: {'; '.join(map(str, tried[:6]))}"
        )
    made = trials[chosen].made
    assert made is not None
    return request.fix(candidates[chosen], made, tried, chosen, names)


def _candidates(
    network: nn.Module, editor: BaseEditor | str, layers: str | Sequence[str] | None, judge: Judge | None
) -> list[Candidate]:
    if isinstance(editor, BaseEditor):
        return [Candidate(editor, layers_for(editor, network, layers))]
    if editor != AUTO:
        raise UserError(f"editor is an editor, such as MinimalHarmEditor(), or 'auto', got {editor!r}")
    if judge is None:
        raise UserError("the editor 'auto' is chosen by harm: give judge, or name an editor")
    return candidates_for(network, layers)
