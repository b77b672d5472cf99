"""What edited samples ask of a linear layer, and the smallest change that gives it: the dual of a convex program."""

from typing import NamedTuple

import torch
from torch import Tensor

from editable.editing.linear.nonnegative import solve_nonnegative
from editable.editing.linear.updated_inverse import UpdatedInverse, inverse_of
from editable.rewriting import InverseMoment

__all__ = ["TOLERANCE", "ActiveSet", "LabelConstraints"]

TOLERANCE = 1e-6
"""Part of a margin by which it may be missed."""

MOST_ROUNDS = 40  # of constraints that enter or leave by updates, before the program is solved anew
MOST_REFINEMENTS = 4  # of a solution by an inverse that is not quite the matrix's own


class ActiveSet(NamedTuple):
    """Constraints that hold with equality, from which a similar program is solved fast.

    Attributes:
        pairs: Sample and competing class of each, int64 [P, 2].
        inverse: About the inverse of their K, float64 [P, P], or [0, 0] where it is not known.
    """

    pairs: Tensor
    inverse: Tensor

    @classmethod
    def empty(cls, device: torch.device) -> "ActiveSet":
        """Return the one of no constraints."""
        none = torch.zeros(0, 2, dtype=torch.int64, device=device)
        return cls(none, torch.zeros(0, 0, dtype=torch.float64, device=device))


class LabelConstraints(NamedTuple):
    """What is asked of S samples, linearised: logits z(Δ) = z + D Δ k lead by a margin at their labels.

    The program and its dual are those of :class:`~editable.editing.MinimalHarmEditor`.

    Attributes:
        logits: z where Δ = 0, [S, C].
        derivatives: D, [S, C, o] or, where all are equal, [1, C, o].
        keys: k, [S, d].
        whitened: Σ^{-1/2}k, [S, d].
        labels: Asked for, int64 [S].
    """

    logits: Tensor
    derivatives: Tensor
    keys: Tensor
    whitened: Tensor
    labels: Tensor

    def seen_from(self, change: Tensor) -> "LabelConstraints":
        """Return the same where Δ is counted from elsewhere, so that it is now the given one [o, d]."""
        return self._replace(logits=self.logits - self._effect_of(change, self.keys))

    def solve(
        self, start: ActiveSet, margin: float, softness: float, inverse: InverseMoment
    ) -> tuple[Tensor, ActiveSet]:
        """Return the smallest change Δ [o, d], and the constraints that are active there.

        Few constraints enter or leave when a stream has got one more sample, and the inverse of the active ones' K is
        updated by these alone. Where that comes to no end, or K is singular to rounding, it is solved by pivoting.

        Args:
            start: Constraints that enter first, as of a similar program.
            margin: m.
            softness: Added to K's diagonal, relative to its mean.
            inverse: Of Σ.
        """
        soft = softness * self._mean_diagonal()
        whitened, active = self._by_updates(start, margin, soft) or self._by_pivoting(start.pairs, margin, soft)
        return inverse.whiten(whitened.T).T, active

    def _by_updates(self, start: ActiveSet, margin: float, soft: float) -> tuple[Tensor, ActiveSet] | None:
        """Return Δ Σ^{1/2} [o, d] and what is active, or none."""
        pairs, is_known = start.pairs, len(start.inverse) == len(start.pairs)
        inverse = UpdatedInverse(start.inverse) if is_known else self._inverse(pairs, soft)
        rounds, is_exact = 0, False
        while inverse is not None and rounds < MOST_ROUNDS:
            rounds += 1
            solved = self._multipliers(pairs, inverse.value, margin, soft, is_exact)
            if solved is None:
                if not is_known:
                    return None
                inverse, is_known = self._inverse(pairs, soft), False  # that was not even nearly theirs
                continue
            multipliers, whitened, logits = solved
            negative = multipliers <= 0
            if bool(negative.any()):
                pairs = pairs[inverse.remove(negative)]
                continue
            entering = self._violated(logits, pairs, margin)
            if not len(entering):
                if is_exact:
                    return whitened, ActiveSet(pairs, inverse.value.contiguous())
                is_exact = True
                continue
            corner = self._kernel(entering, entering)
            corner.diagonal().add_(soft)
            if not inverse.append(self._kernel(pairs, entering), corner):
                return None
            pairs = torch.cat([pairs, entering])
        return None

    def _multipliers(
        self, pairs: Tensor, inverse: Tensor, margin: float, soft: float, is_exact: bool
    ) -> tuple[Tensor, Tensor, Tensor] | None:
        """Solve (K + soft)α = g for constraints; return α, ΔΣ^{1/2} [o, d] and logits there, or none.

        The inverse need not be quite theirs: what is left is solved for again, until it is rounding, or, unless it is
        to be exact, what may be missed.
        """
        bounds = margin - self._leads_of(pairs, self.logits)
        largest = 2 * float(self.derivatives.abs().amax() * self.whitened.square().sum(dim=1).amax())
        multipliers, left = torch.zeros_like(bounds), bounds
        for _ in range(MOST_REFINEMENTS):
            multipliers = multipliers + inverse @ left
            whitened = self._change(pairs, multipliers)
            effect = self._effect_of(whitened, self.whitened)
            left = bounds - self._leads_of(pairs, effect) - soft * multipliers
            size = largest * float(multipliers.abs().sum()) + float(bounds.abs().sum())
            rounding = len(pairs) * torch.finfo(left.dtype).eps * size
            if float(left.abs().sum()) <= rounding or not (is_exact or (left.abs() > TOLERANCE * margin).any()):
                return multipliers, whitened, self.logits + effect
        return None

    def _inverse(self, pairs: Tensor, soft: float) -> UpdatedInverse | None:
        """Return the inverse of K + soft of constraints, computed from scratch."""
        kernel = self._kernel(pairs, pairs)
        kernel.diagonal().add_(soft)
        made = inverse_of(kernel)
        return None if made is None else UpdatedInverse(made)

    def _by_pivoting(self, pairs: Tensor, margin: float, soft: float) -> tuple[Tensor, ActiveSet]:
        """Return Δ Σ^{1/2} [o, d] and what is active, solved for all that have entered whenever some more do."""
        positive = torch.ones(len(pairs), dtype=torch.bool, device=pairs.device)
        while True:
            kernel = self._kernel(pairs, pairs)
            kernel.diagonal().add_(soft)
            multipliers = solve_nonnegative(kernel, margin - self._leads_of(pairs, self.logits), positive)
            whitened, positive = self._change(pairs, multipliers), multipliers > 0
            entering = self._violated(self.logits + self._effect_of(whitened, self.whitened), pairs, margin)
            if not len(entering):
                return whitened, ActiveSet.empty(pairs.device)._replace(pairs=pairs[positive])
            pairs = torch.cat([pairs, entering])
            positive = torch.cat([positive, torch.ones(len(entering), dtype=torch.bool, device=pairs.device)])

    def _violated(self, logits: Tensor, known: Tensor, margin: float) -> Tensor:
        """Return of each sample the constraint that logits [S, C] miss most, unless it is known or none, [P, 2]."""
        behind = logits - logits.gather(1, self.labels[:, None]) + margin
        behind.scatter_(1, self.labels[:, None], -torch.inf)
        behind[known[:, 0], known[:, 1]] = -torch.inf
        worst, label = behind.max(dim=1)
        entering = (worst > TOLERANCE * margin).nonzero().flatten()
        return torch.stack([entering, label[entering]], dim=1)

    def _leads_of(self, pairs: Tensor, logits: Tensor) -> Tensor:
        """Return by how much samples' labels lead, in logits [S, C], the classes of pairs, [P]."""
        sample, other = pairs.unbind(dim=1)
        return logits[sample, self.labels[sample]] - logits[sample, other]

    def _effect_of(self, change: Tensor, keys: Tensor) -> Tensor:
        """Return D Δ k of each sample, [S, C]."""
        moved = keys @ change.T
        alike = len(self.derivatives) == 1  # no copy for each sample
        return moved @ self.derivatives[0].T if alike else (self.derivatives @ moved[:, :, None]).squeeze(2)

    def _mean_diagonal(self) -> float:
        """Return the mean of K's diagonal over all constraints, those that have not entered too."""
        own = self._derivatives_of(torch.arange(len(self.labels), device=self.labels.device), self.labels)
        number = self.derivatives.shape[1]
        # Σ_j ‖d_y − d_j‖² = C‖d_y‖² + Σ_j ‖d_j‖² − 2 d_yᵀ Σ_j d_j
        squares = number * own.square().sum(dim=1) + self.derivatives.square().sum(dim=(1, 2))
        squares = squares - 2 * (own * self.derivatives.sum(dim=1)).sum(dim=1)
        return float((squares * self.whitened.square().sum(dim=1)).sum()) / max(1, len(own) * (number - 1))

    def _derivatives_of(self, samples: Tensor, classes: Tensor) -> Tensor:
        """Return rows of D, [P, o], of samples [P] and their classes [P]."""
        return self.derivatives[samples if len(self.derivatives) > 1 else torch.zeros_like(samples), classes]

    def _directions(self, pairs: Tensor) -> Tensor:
        """Return u of constraints, [P, o]."""
        sample, other = pairs.unbind(dim=1)
        return self._derivatives_of(sample, self.labels[sample]) - self._derivatives_of(sample, other)

    def _kernel(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Return K between constraints [P, 2] and [Q, 2], [P, Q]."""
        products = self.whitened[rows[:, 0]] @ self.whitened[columns[:, 0]].T
        return (self._directions(rows) @ self._directions(columns).T).mul_(products)

    def _change(self, pairs: Tensor, multipliers: Tensor) -> Tensor:
        """Return Σ αu(Σ^{-1/2}k)ᵀ over constraints, [o, d]."""
        pulls = multipliers.new_zeros(len(self.labels), self.derivatives.shape[2])
        pulls.index_add_(0, pairs[:, 0], multipliers[:, None] * self._directions(pairs))
        return pulls.T @ self.whitened
