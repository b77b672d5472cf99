"""Sampled drawdown: each edited network sees a random part of the scoring images, and an interval says how sure we are.

The drawdown of E edits on N scoring images is D = 1/E Σ_e 1/N Σ_i c[e, i], where the change c[e, i] is 1 when edit e
makes image i wrong, −1 when it makes it right, and 0 otherwise. Looking at every c[e, i] costs E·N forward passes.
"""

import random
from typing import NamedTuple

import torch
from torch import Tensor

from editable.editing.evaluation.allocation import PRIOR_CHANGED, Allocation
from editable.editing.evaluation.estimate import NORMAL_QUANTILE, DrawdownEstimate
from editable.editing.evaluation.strata import cut_strata
from editable.editing.evaluation.stratified_estimates import stratified_estimates, third_moment, unit_variances
from editable.errors import UserError, require_at_least, require_seed, require_within

__all__ = ["DrawdownSampler", "Sample"]

SAFETY = 0.97  # the half-width aimed at, as a fraction of the one asked for
IMAGINED_EDITS = 0.05  # as a fraction of all edits
PILOT_PART = 0.05  # of the planned forward passes
MAX_PILOT = 2000  # forward passes; beyond, the edits themselves teach the allocation soon enough
INTERVAL_FREEDOM = 2  # degrees of freedom that the expected variance of a stratum is worth in the interval


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


class DrawdownSampler:
    """Chooses the images that each edited network is scored on, and estimates the mean drawdown with an interval.

    **Strata.** An edit changes the predictions of images with a small margin, hardly those of others. Images that the
    base network gets right and those that it gets wrong are each cut into strata at ranks of the absolute margin in
    geometric progression: fine where the margin is small. Each edit draws its own images, without replacement within
    each stratum.

    **Allocation.** How many images of each stratum depends on where earlier edits made changes; see
    :class:`~editable.editing.evaluation.allocation.Allocation`.

    **No bias.** An allocation that depended on the outcomes it yields would be biased: stopping early where few
    changes were seen favours few changes. Here the allocation for an edit depends only on a pilot, whose outcomes
    are not part of the estimate, and on the outcomes of earlier edits. Given these, its images are a stratified random
    sample of fixed size, whose mean is unbiased; so is the mean over edits.

    **Interval.** For the mean over these edits on all scoring images, and with two remedies for few edits or rare
    changes, where ± 1.96 estimated standard deviations would be too short (Brown, Cai & DasGupta 2001, "Interval
    estimation for a binomial proportion"). A stratum without an observed change would count as certain; therefore its
    variance, pooled over edits, is shrunk towards the one that the allocation expects, which is worth two degrees of
    freedom. And a low estimate comes with a low variance; see :attr:`DrawdownEstimate.half_width`. With many edits both
    vanish. With few, the planned sample size rests on little, and the half-width may come out above the one asked for,
    or below; with hundreds, it ends a few per cent below, unless much the costliest edits come last.

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
        require_at_least(1, forward_passes=forward_passes)
        require_within("(0, 1)", half_width=half_width)
        require_seed(seed=seed)
        if margins.ndim != 1 or not len(margins) or margins.isnan().any():
            raise UserError(f"margins must be numbers of shape [N], N ≥ 1, got shape {list(margins.shape)} or NaN")
        if (forward_passes is None) == (half_width is None):
            raise UserError(
                f"give either forward_passes or half_width, got forward_passes={forward_passes}, "
                f"half_width={half_width}"
            )
        self.num_edits, self.num_images = num_edits, len(margins)
        self._forward_passes = None if forward_passes is None else forward_passes * num_edits // total_edits
        # Of the variance of the total over all ranks, a rank's share is as large as its share of the edits.
        self._max_half_width = SAFETY * (half_width or 0) * (total_edits / num_edits) ** 0.5
        self._members = cut_strata(margins.cpu(), self._planned_size())
        self._sizes = torch.tensor([len(members) for members in self._members])
        self._allocation = Allocation(self._sizes)
        least = int(self._allocation.least.sum())
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
        least = int(self._allocation.least.sum())
        planned = int(min(PILOT_PART * self._planned_size() * self.num_edits, MAX_PILOT)) // num
        if self._forward_passes is not None and (
            planned < least or self._forward_passes - self._used < planned * num + least * edits_left
        ):
            return self._draw(num, torch.zeros_like(self._sizes), is_pilot=True)
        return self._draw(num, self._allocation.best(size=planned), is_pilot=True)

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
            return self._draw(num, self._allocation.best(variance=variance), is_pilot=False)
        left = self._forward_passes - self._used
        size = min(left / edits_left, (left - int(self._allocation.least.sum()) * later) / num)
        return self._draw(num, self._allocation.best(size=int(size)), is_pilot=False)

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
        self._allocation.learn(changes, sample.strata)
        drawdowns, contributions = stratified_estimates(changes, sample.strata, self._sizes)
        if not sample.is_pilot:
            counts = sample.strata.bincount(minlength=len(self._sizes))
            self._contributions += contributions.sum(dim=0)
            self._unit_contributions += num * unit_variances(self._sizes, counts)
            self._interval_freedom += num * (counts - 1).clamp(min=0)
            self._third_moment += third_moment(changes, sample.strata, self._sizes)
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
        expected = INTERVAL_FREEDOM * self._unit_contributions * self._allocation.expected_variances()
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

    def state_dict(self) -> dict[str, Tensor]:
        """Return, between :meth:`update` and the next draw, what a sampler of the same arguments goes on from."""
        counts = torch.tensor([self._used, self._third_moment], dtype=torch.float64)
        return {
            "drawdowns": self.drawdowns,
            "sample_sizes": self.sample_sizes,
            "counts": counts,
            "random": self._generator.get_state(),
            **{name: value.clone() for name, value in self._sums().items()},
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from where another sampler was."""
        self._drawdowns, self._sample_sizes = [state["drawdowns"]], [state["sample_sizes"]]
        self._used, self._third_moment = int(state["counts"][0]), float(state["counts"][1])
        self._generator.set_state(state["random"])
        for name, value in self._sums().items():
            value.copy_(state[name])

    def _sums(self) -> dict[str, Tensor]:
        own = ("_contributions", "_unit_contributions", "_interval_freedom")
        return {**{name: getattr(self, name) for name in own}, **self._allocation.sums}

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
