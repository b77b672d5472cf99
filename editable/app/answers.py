"""What the page is told, as JSON holds it: classes by number, shares as numbers from 0 to 1, maps as levels."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from editable.app.bench import Trial
from editable.app.sight import View

__all__ = ["levels_of", "told_trial", "told_view", "top_of"]

MOST_CLASSES = 5
WHITE = 255

Json = dict[str, Any]


def top_of(probabilities: Tensor, and_also: Sequence[int] = ()) -> list[Json]:
    """Return the likeliest classes, and besides some that are asked for, by falling probability."""
    order = probabilities.argsort(descending=True).tolist()
    chosen = [*order[:MOST_CLASSES], *(label for label in and_also if label not in order[:MOST_CLASSES])]
    return [{"label": label, "share": round(float(probabilities[label]), 6)} for label in chosen]


def levels_of(maps: Sequence[Tensor | None]) -> list[list[list[int]] | None]:
    """Return maps as whole numbers from 0 to 255, row by row, all on the scale of the largest value in any."""
    largest = max((float(some.max()) for some in maps if some is not None), default=0.0)
    scale = WHITE / largest if largest > 0 else 0.0
    return [None if some is None else (some * scale).round().int().tolist() for some in maps]


def told_view(now: View, unedited: View) -> Json:
    """Return what the network makes of an image, as it is now and without any correction."""
    (levels,) = levels_of([now.map])
    return {"top": top_of(now.probabilities), "unedited": top_of(unedited.probabilities), "map": levels}


def told_trial(trial: Trial) -> Json:
    """Return what a correction does and costs."""
    harm, (before, after) = trial.harm, levels_of(trial.maps)
    was = int(trial.before.argmax())
    return {
        "name": trial.asked.name,
        "label": trial.asked.label,
        "painted": trial.asked.mask is not None,
        "by": trial.by,
        "before": top_of(trial.before, [trial.asked.label]),
        "after": top_of(trial.after, [was]),
        "before_map": before,
        "after_map": after,
        "harm": {
            "images": harm.num_images,
            "error_before": harm.error_before,
            "error_after": harm.error_after,
            "broken": len(harm.broken),
            "mended": harm.num_mended,
            "bound": harm.bound,
            "level": harm.level,
        },
        "broken": [some._asdict() for some in trial.broken],
        "holds": dict(_words(trial.holds)),
        "seconds": round(trial.seconds, 1),
    }


def _words(holds: Mapping[str, bool]) -> Json:
    return {str(name): bool(held) for name, held in holds.items()}
