"""Where a stream stands: what holds, and what it costs on images that are neither corrected nor chose anything."""

from editable.callbacks.stream.outcome import StreamPoint
from editable.callbacks.stream.parts import Parts
from editable.callbacks.stream.unfinished import Progress
from editable.editing import StreamEvaluator

__all__ = ["look"]


def look(evaluator: StreamEvaluator, parts: Parts, done: Progress) -> StreamPoint:
    """Return where a stream stands after the corrections so far."""
    number, params = len(done.success), done.state.params
    held = evaluator.held(params, number)
    cost = evaluator.cost(params, parts.judged)
    before = evaluator.predictions[parts.edits.indices[:number]]
    size, right = cost.group_generality(before, parts.edits.labels[:number])
    return StreamPoint(
        number,
        bool(done.success[-1]),
        held.images.double().mean().item(),
        cost.error,
        cost.broken,
        cost.mended,
        cost.agreement,
        held.views.double().mean().item(),
        held.changes.double().mean(dim=0).tolist(),
        size,
        right / size if size else float("nan"),
        done.seconds.sum().item(),
        evaluator.num_bytes(params),
    )
