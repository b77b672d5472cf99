"""LoRA: a change of low rank on chosen layers, held near the unedited network on other images."""

import copy
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from editable.editing.editors.base import (
    BaseEditor,
    ForwardFunction,
    Inputs,
    check_edit,
    inner_loop,
    label_range,
    match_precision,
)
from editable.editing.editors.result import EditResult
from editable.editing.editors.site import EditSite
from editable.editing.locality import kl_locality
from editable.editing.rules.adam import Adam
from editable.errors import UserError, require_at_least, require_not_negative, require_positive, require_seed
from editable.models import Features
from editable.models.machine.devices import to_device

__all__ = ["LowRankEditor"]

BATCH_SIZE = 256  # of references whose unedited logits are computed at once


class LowRankEditor(BaseEditor):
    r"""Adds a product of two thin matrices to each linear and convolutional weight of the place (LoRA).

    .. math:: W = W_0 + B A, \qquad \min_{A, B} \; \text{cross-entropy}(\text{edit}) +
        λ\, \mathrm{KL}(p_{\text{unedited}} ‖ p_{\text{edited}}) \text{ on a replay batch}

    with A [r, key size] uniform within ±1/√(key size) by seed, B [value size, r] zero at first, by Adam, until every
    edited sample has its label by the margin; each step has a replay batch of its own, drawn by the seed among
    reference images. A convolution's weight [f, c, m, n] is the matrix [f, c·m·n]. (Hu et al., ICLR 2022; the KL term
    is that of editable training, against the network as it was before all edits.) Biases and whatever else is editable
    are left.

    In a stream each edit adds matrices of its own, drawn anew; earlier samples are not looked at again.

    Args:
        rank: r.
        learning_rate: Of Adam, for A and B.
        max_steps: Largest number of steps.
        margin: By how much, in nats, the asked label has to lead all others; it has to be predicted besides.
        locality: λ, the weight of the KL term.
        replay_size: Number of reference images in each step's batch; all where there are fewer.
        num_references: Number of images, neither edited nor judged, to draw from; their features are kept.
        seed: For A and the batches.

    Raises:
        UserError: If a number is out of its range; at a place without a linear or convolutional weight.
    """

    def __init__(
        self,
        rank: int = 4,
        learning_rate: float = 1e-2,
        max_steps: int = 100,
        margin: float = 0.1,
        locality: float = 1.0,
        replay_size: int = 64,
        num_references: int = 1000,
        seed: int = 0,
    ) -> None:
        super().__init__(max_steps, margin)
        require_at_least(1, rank=rank, replay_size=replay_size, num_references=num_references)
        require_positive(learning_rate=learning_rate)
        require_not_negative(locality=locality)
        require_seed(seed=seed)
        self.rank, self.learning_rate, self.locality = rank, learning_rate, locality
        self.replay_size, self.num_references, self.seed = replay_size, num_references, seed
        self.objective.strict = True
        self._names: tuple[str, ...] = ()
        self._replay: tuple[Features, Tensor] = ((), torch.zeros(0, 0))

    @torch.no_grad()
    def at(self, site: EditSite) -> "LowRankEditor":
        """Return the editor with the place's weights, and what the network says of references; see `BaseEditor.at`."""
        split = site.split
        places = [name.rpartition(".") for name in split.names]
        names = tuple(
            f"{layer}.{part}"
            for layer, _, part in places
            if part == "weight" and isinstance(split.network.get_submodule(layer), nn.Linear | nn.Conv2d)
        )
        if not names:
            raise UserError(
                "LowRankEditor changes linear and convolutional weights, and there is none among "
                f"{', '.join(split.names)}"
            )
        features, _ = site.features(self.num_references)
        parts = zip(*(some.split(BATCH_SIZE) for some in features), strict=True)
        editor = copy.copy(self)
        editor._names = names
        editor._replay = features, torch.cat([split.suffix(part, split.params) for part in parts])
        return editor

    def forward(
        self,
        forward: ForwardFunction,
        params: Mapping[str, Tensor],
        inputs: Inputs,
        targets: Tensor,
        differentiable: bool = False,
    ) -> EditResult:
        """Make one edit of all samples; see :meth:`BaseEditor.forward`. It cannot be differentiated."""
        self._refuse_differentiable(differentiable)
        return self._edit(forward, params, inputs, targets, self.seed)

    def extend(
        self,
        forward: ForwardFunction,
        params: Mapping[str, Tensor],
        inputs: Inputs,
        targets: Tensor,
        state: Mapping[str, Tensor],
    ) -> tuple[EditResult, dict[str, Tensor]]:
        """Make the next edit of a stream, with matrices and batches of its own; see :meth:`BaseEditor.extend`."""
        number = int(state["number"]) if state else 0
        result = self._edit(forward, params, inputs, targets, self.seed + number)
        return result, {"number": torch.tensor(number + 1)}

    def with_learning_rate(self, learning_rate: float) -> "LowRankEditor":
        """Return a copy with another learning rate; see :meth:`BaseEditor.with_learning_rate`."""
        require_positive(learning_rate=learning_rate)
        editor = copy.copy(self)
        editor.learning_rate = learning_rate
        return editor

    def rank_of_change(self, num_samples: int) -> int:
        """Return r, however many samples there are; see :meth:`BaseEditor.rank_of_change`."""
        return self.rank

    def _edit(
        self, forward: ForwardFunction, params: Mapping[str, Tensor], inputs: Inputs, targets: Tensor, seed: int
    ) -> EditResult:
        targets = check_edit(params, inputs, targets)
        own = {name: param.detach() for name, param in params.items()}
        generator = torch.Generator().manual_seed(seed)
        factors = self._first_factors(own, generator)
        inputs = match_precision(inputs, own, differentiable=False)
        objective = self._loss_function(forward, label_range(targets))
        rule = Adam(self.learning_rate)
        state = rule.init(factors)
        for step in range(self.max_steps + 1):
            with torch.no_grad():
                edited = self._weights(own, factors)
                loss, success = objective(edited, inputs, targets)
            is_finite, succeeded = torch.stack([loss.isfinite(), success]).tolist()  # the one wait of a step
            _require_finite(is_finite)
            if succeeded or step == self.max_steps:
                break
            with inner_loop(targets.device, differentiable=False):
                factors = {name: factor.detach().requires_grad_() for name, factor in factors.items()}
                moving = self._weights(own, factors)
                total = functional.cross_entropy(forward(inputs, moving), targets)
                total = total + self.locality * self._harm(forward, moving, generator)
                gradients = torch.autograd.grad(total, list(factors.values()), materialize_grads=True)
            with torch.no_grad():
                factors, state = rule.update(dict(zip(factors, gradients, strict=True)), state, factors)
        return EditResult(edited, loss, success, torch.tensor(step, device=targets.device))

    def _first_factors(self, params: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return A and B of each weight, by its name with ``.A`` and ``.B`` behind it."""
        if not self._names:
            raise UserError("LowRankEditor needs its layers and reference images: call at(EditSite(…)) first")
        factors = {}
        for name in (name for name in self._names if name in params):
            weight = params[name].flatten(1)
            drawn = torch.rand(self.rank, weight.shape[1], generator=generator, dtype=torch.float64)
            factors[f"{name}.A"] = ((2 * drawn - 1) / math.sqrt(weight.shape[1])).to(weight)
            factors[f"{name}.B"] = weight.new_zeros(len(weight), self.rank)
        if not factors:
            raise UserError(
                f"the editor was made for {', '.join(self._names)}, none of which is among the parameters "
                f"{', '.join(params)}"
            )
        return factors

    def _weights(self, params: Mapping[str, Tensor], factors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return all parameters, with W₀ + BA where there are factors."""
        return {
            name: param + (factors[f"{name}.B"] @ factors[f"{name}.A"]).view_as(param)
            if f"{name}.A" in factors
            else param.clone()
            for name, param in params.items()
        }

    def _harm(self, forward: ForwardFunction, params: Mapping[str, Tensor], generator: torch.Generator) -> Tensor:
        """Return the KL divergence from the unedited network on a batch of references, a scalar."""
        features, logits = self._replay
        drawn = torch.randperm(len(logits), generator=generator)[: self.replay_size]
        drawn = to_device(drawn, logits.device)
        return kl_locality(logits[drawn], forward(tuple(some[drawn] for some in features), params))


def _require_finite(is_finite: bool) -> None:
    if not is_finite:
        raise UserError(
            "the logits of the edited samples are NaN or infinite: look at the samples, or take a lower learning_rate"
        )
