"""Sampled drawdown: each edited network sees a random part of the scoring images, and an interval says how sure we are.

The drawdown of E edits on N scoring images is D = 1/E Σ_e 1/N Σ_i c[e, i], where the change c[e, i] is 1 when edit e
makes image i wrong, −1 when it makes it right, and 0 otherwise. Looking at every c[e, i] costs E·N forward passes.
"""

import random
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from editable.errors import UserError, require_at_least

__all__ = ["DrawdownEstimate", "DrawdownSampler", "Sample", "merge_estimates", "stratified_estimates"]

NORMAL_QUANTILE = 1.959964  # 97.5 %, for an interval of 95 %
SAFETY = 0.97  # the half-width aimed at, as a fraction of the one asked for
IMAGINED_EDITS = 0.05  # as a fraction of all edits
IMAGES_PER_STRATUM = 12  # planned sample size for each stratum of images that the base network gets right
MAX_STRATA = 8  # of images that the base network gets right; beyond, the sample size hardly falls any more
INNERMOST = 1 / 50  # part of the images with the smallest margins that are a stratum of their own
PILOT_PART = 0.05  # of the planned forward passes
MAX_PILOT = 2000  # forward passes; beyond, the edits themselves teach the allocation soon enough
PRIOR_CHANGED = 0.1  # part of the images that an edit is expected to change, before any was seen ...
PRIOR_IMAGES = 10  # ... and how many observed images this expectation is worth
# Degrees of freedom that the expected variance of a stratum is worth: many in the allocation, where a stratum that got
# too few images costs more than one that got too many, few in the interval.
ALLOCATION_FREEDOM = 100
INTERVAL_FREEDOM = 2


class Sample(NamedTuple):
    """Which images E edited networks are to be scored on.

    Attributes:
        indices: Positions among the scoring images, int64 [E, n]; n may be 0 in a pilot.
        strata: The stratum of each column, int64 [n].
        is_pilot: Whether the outcomes only guide later draws.
    """

    indices: Tensor
    strata: Tensor
    is_pilot: bool


class DrawdownEstimate(NamedTuple):
    """Estimated drawdown of some edits as sums, so that estimates of other edits are added field by field.

    Attributes:
        num_edits: E, the number of edits seen, those of 0 steps included.
        drawdown_sum: Sum of the edits' drawdowns, as fractions.
        variance_sum: Sum of the estimated variances of the edits' drawdowns.
        third_moment_sum: Sum of the estimated third central moments of the edits' drawdowns.
        forward_passes: Images looked at, the pilot's included.
    """

    num_edits: int
    drawdown_sum: float
    variance_sum: float
    third_moment_sum: float
    forward_passes: int

    @property
    def drawdown(self) -> float:
        """Mean drawdown, as a fraction of the scoring images; NaN without edits."""
        return self.drawdown_sum / self.num_edits if self.num_edits else float("nan")

    @property
    def half_width(self) -> float:
        r"""Half-width h of the 95 % interval around :attr:`drawdown`; 0 where every image was looked at.

        An estimate that by chance is low comes with a variance that is low. As the score interval (Wilson 1927) does
        for a proportion, h takes the variance at the end of the interval that lies where the variance is larger,

        .. math:: h^2 = z^2 \left(V + \frac{|M_3|}{V} h\right), \qquad z = 1.96,

        where V and M₃, variance and third moment of the mean, give the slope of the variance: M₃ is its covariance with
        the mean (Zhang 2007, "Sample mean and sample variance: their covariance and their (in)dependence").
        """
        if not self.num_edits:
            return float("nan")
        slope = abs(self.third_moment_sum) / self.variance_sum if self.variance_sum else 0.0
        shift = NORMAL_QUANTILE**2 * slope / 2
        return (shift + (NORMAL_QUANTILE**2 * self.variance_sum + shift**2) ** 0.5) / self.num_edits


def merge_estimates(estimates: Iterable[DrawdownEstimate]) -> DrawdownEstimate:
    """Add up estimates of different edits, such as those of each rank, drawn with different seeds."""
    empty = DrawdownEstimate(0, 0.0, 0.0, 0.0, 0)
    return DrawdownEstimate(*(sum(field) for field in zip(empty, *estimates, strict=True)))


def stratified_estimates(changes: Tensor, strata: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    r"""Estimate the mean of a population from a sample without replacement within each of H strata.

    .. math:: \bar y = \sum_h W_h \bar y_h, \qquad v_h = W_h^2 \left(1 - \frac{n_h}{N_h}\right) \frac{s_h^2}{n_h},
       \qquad W_h = \frac{N_h}{N}

    Both are unbiased: the mean for the population's, the sum of the v_h for the variance of the estimated mean
    (Cochran, Sampling Techniques, 3rd edition, 1977, theorems 5.1 and 5.4).

    Args:
        changes: Observed values of E populations, [E, n].
        strata: The stratum of each column, int64 [n]; at least two columns of each stratum that has two members.
        sizes: Number of members of each stratum, N_h, int64 [H].

    Returns:
        Estimated means, float64 [E], and the contributions v_h to their variances, float64 [E, H].
    """
    counts = strata.bincount(minlength=len(sizes)).clamp(min=1)
    weights = sizes / sizes.sum(dtype=torch.float64)
    means, squares = _moments(changes, strata, len(sizes))
    contributions = _unit_variances(sizes, counts) * squares / (counts - 1).clamp(min=1)
    return means @ weights, contributions


def _moments(changes: Tensor, strata: Tensor, num_strata: int) -> tuple[Tensor, Tensor]:
    """Return the mean and the sum of squared deviations from it within each stratum, float64 [E, H] both."""
    member = torch.nn.functional.one_hot(strata, num_strata).double()
    means = changes.double() @ member / member.sum(dim=0).clamp(min=1)
    return means, (changes - means[:, strata]) ** 2 @ member


def _third_moment(changes: Tensor, strata: Tensor, sizes: Tensor) -> float:
    """Return the sum of the estimated third central moments of the edits' estimated means."""
    counts = strata.bincount(minlength=len(sizes))
    weights, sampled = sizes / sizes.sum(dtype=torch.float64), counts / sizes.double()
    means, _ = _moments(changes, strata, len(sizes))
    cubes = ((changes - means[:, strata]) ** 3).sum(dim=0)
    return float(cubes @ (weights**3 * (1 - sampled) * (1 - 2 * sampled) / counts.clamp(min=1) ** 3)[strata])


def _unit_variances(sizes: Tensor, counts: Tensor) -> Tensor:
    """Return what a variance of 1 in a stratum adds to the variance of the estimated mean, float64 [H]."""
    weights = sizes / sizes.sum(dtype=torch.float64)
    return weights**2 * (1 - counts / sizes.double()) / counts


class DrawdownSampler:
    """Chooses the images that each edited network is scored on, and estimates the mean drawdown with an interval.

    **Strata.** An edit changes the predictions of images with a small margin, hardly those of others. Images that the
    base network gets right and those that it gets wrong are each cut into strata at ranks of the absolute margin in
    geometric progression: fine where the margin is small. Each edit draws its own images, without replacement within
    each stratum.

    **Allocation.** Stratum h with N_h images, in which changes have the standard deviation S_h within an edit, gets
    n_h ∝ N_h S_h images (Neyman 1934), in whole numbers by the exact rule of Wright (2012, "The equivalence of Neyman
    optimum allocation for sampling and equal proportions for apportioning the U.S. House of Representatives"), at
    least 2 and at most N_h. S_h comes from all outcomes so far, shrunk towards what would be expected if each stratum
    had the same number of changes; so a stratum without any change yet still gets images.

    **No bias.** An allocation that depended on the outcomes it yields would be biased: stopping early where few
    changes were seen favours few changes. Here the allocation for an edit depends only on a pilot, whose outcomes
    are not part of the estimate, and on the outcomes of earlier edits. Given these, its images are a stratified random
    sample of fixed size, whose mean is unbiased; so is the mean over edits.

    **Interval.** For the mean over these edits on all scoring images, and with two remedies for few edits or rare
    changes, where ± 1.96 estimated standard deviations would be too short (Brown, Cai & DasGupta 2001, "Interval
    estimation for a binomial proportion"). A stratum without an observed change would count as certain; therefore its
    variance, pooled over edits, is shrunk towards the expected one above, which is worth two degrees of freedom. And a
    low estimate comes with a low variance; see :attr:`DrawdownEstimate.half_width`. With many edits both vanish. With
    few, the planned sample size rests on little, and the half-width may come out above the one asked for, or below;
    with hundreds, it ends a few per cent below, unless much the costliest edits come last.

    Use: for each group of edits, :meth:`skip` those of 0 steps; before the first :meth:`draw`, :meth:`draw_pilot` for
    the same edits; each sample goes back with its outcomes by :meth:`update`.

    Args:
        margins: Base network's logit of the true label minus its largest other logit, float [N].
        num_edits: Number of edits that this sampler will see.
        forward_passes: Largest number of forward passes over all edits, the pilot's included.
        half_width: Half-width of the 95 % interval to reach, as a fraction: 0.001 is a tenth of a point. Exactly one of
            ``forward_passes`` and ``half_width`` is given.
        total_edits: Number of edits of all ranks together, which ``forward_passes`` and ``half_width`` are for;
            ``num_edits`` by default.
        seed: For the draws. Each rank needs its own, else the errors of its estimate are those of the others.

    Raises:
        UserError: If an argument is out of its range, or ``forward_passes`` do not give each edit its least sample.

    Example:
        >>> changes = torch.zeros(3, 100, dtype=torch.int64)
        >>> sampler = DrawdownSampler(torch.linspace(-1, 9, 100), num_edits=3, forward_passes=120)
        >>> for draw in (sampler.draw_pilot, sampler.draw):
        ...     sample = draw(3)
        ...     drawdowns = sampler.update(sample, changes.gather(1, sample.indices))
        >>> sampler.estimate().drawdown
        0.0
    """

    def __init__(
        self,
        margins: Tensor,
        num_edits: int,
        forward_passes: int | None = None,
        half_width: float | None = None,
        total_edits: int | None = None,
        seed: int = 0,
    ) -> None:
        total_edits = num_edits if total_edits is None else total_edits
        require_at_least(1, num_edits=num_edits)
        require_at_least(num_edits, total_edits=total_edits)
        if margins.ndim != 1 or not len(margins) or margins.isnan().any():
            raise UserError(f"margins must be numbers of shape [N], N ≥ 1, got shape {list(margins.shape)} or NaN")
        if (forward_passes is None) == (half_width is None):
            raise UserError(
                f"give either forward_passes or half_width, got forward_passes={forward_passes}, "
                f"half_width={half_width}"
            )
        if half_width is not None and not 0 < half_width < 1:
            raise UserError(f"half_width must be a fraction between 0 and 1, got {half_width}")
        self.num_edits, self.num_images = num_edits, len(margins)
        self._forward_passes = None if forward_passes is None else forward_passes * num_edits // total_edits
        # Of the variance of the total over all ranks, a rank's share is as large as its share of the edits.
        self._max_half_width = SAFETY * (half_width or 0) * (total_edits / num_edits) ** 0.5
        self._members = _cut_strata(margins.cpu(), self._planned_size())
        self._sizes = torch.tensor([len(members) for members in self._members])
        self._weights = self._sizes.double() / self.num_images
        self._least = self._sizes.clamp(max=2)
        least = int(self._least.sum())
        if self._forward_passes is not None and self._forward_passes < least * num_edits:
            raise UserError(
                f"forward_passes must be at least {least * total_edits}, {least} for each of {total_edits} edits, "
                f"got {forward_passes}"
            )
        # PyTorch asks for seeds with as many bits 0 as 1, and ranks come with neighbouring small ones.
        self._generator = torch.Generator().manual_seed(random.Random(seed).getrandbits(63))
        self._pending: Sample | None = None
        self._used = 0
        self._third_moment = 0.0
        self._drawdowns: list[Tensor] = []
        self._sample_sizes: list[Tensor] = []
        zeros = torch.zeros(len(self._sizes), dtype=torch.float64)
        # What allocations learn from, the pilot included: images looked at, changes, squared deviations, freedom.
        self._looked, self._changed, self._squares, self._freedom = (zeros.clone() for _ in range(4))
        # What the interval is made of: contributions to the variance, those of a variance of 1, degrees of freedom.
        self._contributions, self._unit_contributions, self._interval_freedom = (zeros.clone() for _ in range(3))

    @property
    def drawdowns(self) -> Tensor:
        """Estimated drawdown of each edit in the order of :meth:`update` and :meth:`skip`, float64 [E]."""
        return torch.cat([torch.zeros(0, dtype=torch.float64), *self._drawdowns])

    @property
    def sample_sizes(self) -> Tensor:
        """Number of images that each edit's estimate rests on, in the same order, int64 [E]."""
        return torch.cat([torch.zeros(0, dtype=torch.int64), *self._sample_sizes])

    def draw_pilot(self, num: int) -> Sample:
        """Draw images whose outcomes guide the allocation and are not part of the estimate.

        The pilot takes about 5 % of the forward passes, none at all where they are few.

        Args:
            num: Number of edits to look at, at best the first group.

        Raises:
            UserError: If these are more edits than are left.
        """
        edits_left = self._check_left(num)
        least = int(self._least.sum())
        planned = int(min(PILOT_PART * self._planned_size() * self.num_edits, MAX_PILOT)) // num
        if self._forward_passes is not None and (
            planned < least or self._forward_passes - self._used < planned * num + least * edits_left
        ):
            return self._draw(num, torch.zeros_like(self._sizes), is_pilot=True)
        return self._draw(num, self._allocate(size=planned), is_pilot=True)

    def draw(self, num: int) -> Sample:
        """Draw images to score each of the next edits on.

        Args:
            num: Number of edits, none of them of 0 steps.

        Raises:
            UserError: If these are more edits than are left.
        """
        later = self._check_left(num) - num
        # Some of the later edits will be skipped at no cost, as were some of those seen.
        seen = torch.cat([self.sample_sizes, torch.ones(num + 1)])
        share = float((seen > 0).double().mean())
        edits_left = num + later * share
        if self._forward_passes is None:
            # Behind the last edit we imagine a few more, with what they are allowed: else the sizes of the last samples
            # would have to make up for all that chance did before.
            imagined = IMAGINED_EDITS * self.num_edits
            allowed = (1 + IMAGINED_EDITS) * self._max_variance() - self.estimate().variance_sum
            variance = allowed / (edits_left + imagined * share)
            return self._draw(num, self._allocate(variance=variance), is_pilot=False)
        left = self._forward_passes - self._used
        size = min(left / edits_left, (left - int(self._least.sum()) * later) / num)
        return self._draw(num, self._allocate(size=int(size)), is_pilot=False)

    def update(self, sample: Sample, changes: Tensor) -> Tensor:
        """Take in the outcomes on a sample, the last one drawn.

        Args:
            sample: What :meth:`draw` or :meth:`draw_pilot` returned.
            changes: 1 where the edit made the image wrong, −1 where right, else 0; [E, n].

        Returns:
            Estimated drawdown of each edit, float64 [E]; that of a pilot is not part of the estimate.

        Raises:
            UserError: If it is not the sample last drawn, or changes are not of its shape or not −1, 0 or 1.
        """
        if sample is not self._pending:
            raise UserError("update takes the sample last drawn, once: call draw or draw_pilot before")
        if changes.shape != sample.indices.shape:
            raise UserError(f"changes must have shape {list(sample.indices.shape)}, got {list(changes.shape)}")
        changes = changes.cpu()
        strange = changes[(changes != 0) & (changes.abs() != 1)]
        if len(strange):
            raise UserError(f"changes must be -1, 0 or 1, got {strange[0].item()}")
        self._pending = None
        num, size = changes.shape
        self._used += num * size
        counts = sample.strata.bincount(minlength=len(self._sizes))
        freedom = num * (counts - 1).clamp(min=0)
        self._looked += num * counts
        self._changed.index_add_(0, sample.strata, changes.abs().sum(dim=0).double())
        self._squares += _moments(changes, sample.strata, len(self._sizes))[1].sum(dim=0)
        self._freedom += freedom
        drawdowns, contributions = stratified_estimates(changes, sample.strata, self._sizes)
        if not sample.is_pilot:
            self._contributions += contributions.sum(dim=0)
            self._unit_contributions += num * _unit_variances(self._sizes, counts)
            self._interval_freedom += freedom
            self._third_moment += _third_moment(changes, sample.strata, self._sizes)
            self._drawdowns.append(drawdowns)
            self._sample_sizes.append(torch.full((num,), size))
        return drawdowns

    def skip(self, num: int) -> None:
        """Count edits of 0 steps, whose drawdown is exactly 0, at no cost.

        Raises:
            UserError: If these are more edits than are left.
        """
        if num:
            self._check_left(num)
            self._drawdowns.append(torch.zeros(num, dtype=torch.float64))
            self._sample_sizes.append(torch.zeros(num, dtype=torch.int64))

    def estimate(self) -> DrawdownEstimate:
        """Estimate the mean drawdown of the edits seen so far."""
        drawdowns = self.drawdowns
        expected = INTERVAL_FREEDOM * self._unit_contributions * self._expected_variances()
        observed = self._interval_freedom * self._contributions
        variances = (observed + expected) / (self._interval_freedom + INTERVAL_FREEDOM)
        return DrawdownEstimate(
            len(drawdowns), float(drawdowns.sum()), float(variances.sum()), self._third_moment, self._used
        )

    def shares(self, sample: Sample, outcomes: Tensor) -> Tensor:
        """Estimate, without bias, the share of all images that have some outcome, from those of a sample.

        Args:
            sample: What :meth:`draw` returned.
            outcomes: Which of its images have the outcome, bool [E, n].

        Returns:
            The share for each edit, float64 [E].
        """
        return stratified_estimates(outcomes.long(), sample.strata, self._sizes)[0]

    def _planned_size(self) -> int:
        """Sample size of an edit to expect before any outcome."""
        if self._forward_passes is not None:
            return min(self._forward_passes // self.num_edits, self.num_images)
        variance = (self._max_half_width / NORMAL_QUANTILE) ** 2 * self.num_edits
        return max(1, int(1 / (1 / self.num_images + variance / PRIOR_CHANGED)))

    def _max_variance(self) -> float:
        """Return the sum of variances that gives the half-width aimed at, if the slope stays as it is."""
        estimate = self.estimate()
        slope = abs(estimate.third_moment_sum) / estimate.variance_sum if estimate.variance_sum else 0.0
        half_width = self._max_half_width * self.num_edits
        return half_width * max(half_width / NORMAL_QUANTILE**2 - slope, half_width / NORMAL_QUANTILE**2 / 4)

    def _check_left(self, num: int) -> int:
        """Return the number of edits that are left, these included."""
        require_at_least(1, num=num)
        left = self.num_edits - sum(map(len, self._drawdowns))
        if num > left:
            raise UserError(f"num_edits is {self.num_edits}, of which {left} are left, got {num} more")
        return left

    def _draw(self, num: int, counts: Tensor, is_pilot: bool) -> Sample:
        columns = [
            members[torch.rand(num, len(members), generator=self._generator, dtype=torch.float64).argsort()[:, :count]]
            for members, count in zip(self._members, counts.tolist(), strict=True)
        ]
        strata = torch.arange(len(counts)).repeat_interleave(counts)
        self._pending = Sample(torch.cat(columns, dim=1), strata, is_pilot)
        return self._pending

    def _expected_variances(self) -> Tensor:
        """Return the variance within each stratum if each had the same number of changes, float64 [H]."""
        observed = float(self._weights @ (self._changed / self._looked.clamp(min=1)))
        images = float(self._looked.sum())
        share = (PRIOR_IMAGES * PRIOR_CHANGED + images * observed) / (PRIOR_IMAGES + images)
        rates = (share / len(self._sizes) / self._weights).clamp(max=0.5)
        return rates * (1 - rates)

    def _allocate(self, size: int = 0, variance: float = float("inf")) -> Tensor:
        """Return the best allocation n_h, int64 [H], of ``size`` images, or of as few as reach ``variance``."""
        expected = ALLOCATION_FREEDOM * self._expected_variances()
        variances = (self._squares + expected) / (self._freedom + ALLOCATION_FREEDOM)
        # The step from k to k + 1 images in stratum h lowers the variance of the mean by W_h² S_h² / (k (k + 1)).
        steps = [torch.arange(2, max(2, members), dtype=torch.float64) for members in self._sizes.tolist()]
        owners = torch.arange(len(steps)).repeat_interleave(torch.tensor([len(step) for step in steps]))
        k = torch.cat(steps)
        gains = (self._weights**2 * variances)[owners] / (k * (k + 1))
        gains, order = gains.sort(descending=True, stable=True)
        # A census has variance 0, so what the steps not taken would gain is the variance that remains.
        num_steps = int((gains.flip(0).cumsum(0) > max(variance, 0.0)).sum())
        num_steps = max(num_steps, size - int(self._least.sum()))
        return self._least + owners[order[:num_steps]].bincount(minlength=len(steps))


def _cut_strata(margins: Tensor, planned_size: int) -> list[Tensor]:
    """Return the positions of the images of each stratum."""
    order = margins.abs().argsort(stable=True)
    right = margins[order] > 0
    num_strata = max(1, min(MAX_STRATA, planned_size // IMAGES_PER_STRATUM))
    return [*_cut(order[right], num_strata), *_cut(order[~right], max(1, num_strata // 2))]


def _cut(positions: Tensor, num_strata: int) -> list[Tensor]:
    """Cut positions at ranks in geometric progression, into at most ``num_strata`` parts of at least two."""
    ends = [round(len(positions) * INNERMOST ** (k / max(1, num_strata - 1))) for k in reversed(range(num_strata))]
    parts, start = [], 0
    for end in ends:
        if end - start >= 2 or (end == len(positions) > start):
            parts.append(positions[start:end])
            start = end
    return parts
