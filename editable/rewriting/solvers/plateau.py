"""When a descent has come to rest: its loss no longer falls from one window of steps to the next."""

from collections import deque

from editable.errors import require_at_least, require_within

__all__ = ["Plateau"]


class Plateau:
    r"""Tells from the losses of a descent when it has reached a plateau.

    Losses fall in two neighbouring windows of ``patience`` values each; a plateau is where the later window's mean is
    lower than the earlier one's by no more than the relative ``tolerance``,

    .. math:: \bar\ell_{(t-p,\,t]} \ge (1 - \tau)\, \bar\ell_{(t-2p,\,t-p]}.

    Means, rather than the best value so far, because a descent with a fixed learning rate ends in jumping about the
    minimum, and because losses on random mini-batches are noisy.

    Args:
        patience: p ≥ 1, the number of values in a window.
        tolerance: τ in [0, 1).

    Raises:
        UserError: If a number is out of its range.

    Example:
        >>> plateau = Plateau(patience=2, tolerance=0.1)
        >>> [plateau.update(loss) for loss in (8.0, 4.0, 2.0, 1.0, 1.0, 1.0, 1.0)]
        [False, False, False, False, False, False, True]
    """

    def __init__(self, patience: int, tolerance: float) -> None:
        require_at_least(1, patience=patience)
        require_within("[0, 1)", tolerance=tolerance)
        self.patience, self.tolerance = patience, tolerance
        self._losses: deque[float] = deque(maxlen=2 * patience)

    def update(self, loss: float) -> bool:
        """Take the next loss and return whether a plateau is reached; never before two windows are full."""
        self._losses.append(loss)
        if len(self._losses) < 2 * self.patience:
            return False
        losses = list(self._losses)
        return sum(losses[self.patience :]) >= (1 - self.tolerance) * sum(losses[: self.patience])

    def reset(self) -> None:
        """Forget the losses so far, as after a change of the learning rate."""
        self._losses.clear()
