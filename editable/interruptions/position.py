"""Where in a fit a checkpoint was made, and Lightning's counters put so that it goes on exactly from there.

Lightning tells from its counters what was going on when a checkpoint was made, and guesses where they do not say: it
skips a validation that was due after the step that was saved, leaves out the end of an epoch whose last step was
saved, and counts an epoch twice where ``max_steps`` is set. So the place is written down, and before the counters are
read they are put into the one state from which each place is reached.
"""

from typing import Any, Literal

from lightning.pytorch import Trainer

__all__ = ["Place", "place_of", "put_counters"]

Place = Literal["step", "validation", "epoch", "end"]
"""What was done last: a training step, the validation after it, the last validation and step of an epoch, or all that
belongs to an epoch."""


def place_of(trainer: Trainer, validated: bool) -> Place | None:
    """Return the place of a fit; none in the middle of a step, from which nothing goes on exactly.

    Args:
        trainer: That is fitting.
        validated: Whether the validation after the last step is over.
    """
    loop: Any = trainer.fit_loop
    epoch, batch = loop.epoch_progress.current, loop.epoch_loop.batch_progress.current
    if epoch.processed == epoch.ready:
        return "end" if epoch.completed == epoch.processed else "epoch"
    if batch.ready != batch.processed:
        return None
    return "validation" if validated else "step"


def put_counters(loops: dict[str, Any], place: Place, accumulating: bool, validates: bool) -> None:
    """Put a checkpoint's counters, in place, so that the fit goes on behind what was done last.

    Args:
        loops: The checkpoint's ``loops["fit_loop"]``.
        place: What was done last.
        accumulating: Whether gradients of the last step were still waiting for those of further batches.
        validates: Whether a validation follows the last step.
    """
    batch, epoch = loops["epoch_loop.batch_progress"], loops["epoch_progress"]
    own = loops["epoch_loop.state_dict"]
    validation = loops["epoch_loop.val_loop.batch_progress"]
    for which in ("total", "current"):
        _level(batch[which], batch[which]["processed"])
        _level(validation[which], 0)
    if place in ("epoch", "end"):
        for which in ("total", "current"):
            _level(epoch[which], epoch[which]["processed"])
        _level(batch["current"], 0)
        batch["is_last_batch"] = False
    elif place == "step" and validates:
        # One image batch begun and none done is what makes Lightning run the validation, from its beginning.
        validation["total"].update(ready=1, started=1)
    elif place == "step" and not accumulating:
        own["_batches_that_stepped"] = own.get("_batches_that_stepped", 0) + 1  # is counted behind the save


def _level(counts: dict[str, int], value: int) -> None:
    counts.update(dict.fromkeys(counts, value))
