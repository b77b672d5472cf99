"""How much risk each test of a stream may take, so that all of them together take no more than was agreed."""

import math

from editable.errors import require_at_least, require_whole, require_within

__all__ = ["stream_risk"]


def stream_risk(risk: float, number: int, refused: int | None = None) -> float:
    r"""Return δ for the n-th test of a stream, when all tests together may fail with probability δ.

    All tests look at the same images. Where nothing depends on what they find, because no edit is ever refused,

    .. math:: δ_n = \frac{6}{π^2 n^2} δ, \qquad \sum_{n=1}^\infty δ_n = δ.

    Where edits are refused and the stream goes on without them, what is tested at n depends on the earlier decisions,
    and so on the images: one cannot test it as if it had been given. But for each history, a row of n − 1 decisions, it
    is a given edited network. So each history has a risk of its own, alike for those with r refusals, of which there
    are as many as ways to choose r of n − 1:

    .. math:: δ_{n,r} = \frac{6}{π^2 n^2} \cdot \frac{6}{π^2 (r+1)^2} \cdot \binom{n-1}{r}^{-1} δ, \qquad
        \sum_{n} \sum_{r=0}^{n-1} \binom{n-1}{r} δ_{n,r}
        = \sum_n \frac{6 δ}{π^2 n^2} \sum_{r=0}^{n-1} \frac{6}{π^2 (r+1)^2} ≤ δ.

    By the union over all histories, every bound of a stream holds at once with probability 1 − δ, whichever history
    comes about. Refusals are dear: each costs about the logarithm of the stream's length.

    Args:
        risk: δ, in (0, 1).
        number: n, counted from 1.
        refused: r, how many of the earlier edits were refused; None where none ever is, whatever is found.

    Raises:
        UserError: If a number is out of its range.
    """
    require_within("(0, 1)", risk=risk)
    require_at_least(1, number=number)
    own = math.log(risk) + math.log(6) - 2 * math.log(math.pi * number)
    if refused is None:
        return math.exp(own)
    require_whole(0, number - 1, refused=refused)
    histories = math.lgamma(number) - math.lgamma(refused + 1) - math.lgamma(number - refused)
    return math.exp(own + math.log(6) - 2 * math.log(math.pi * (refused + 1)) - histories)
