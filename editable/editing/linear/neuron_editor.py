"""A neuron for each correction: silent at other images, it raises the asked label where it fires."""

import copy
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from editable.editing.editors.base import (
    BaseEditor,
    ForwardFunction,
    Inputs,
    check_edit,
    label_range,
    match_precision,
    require_classes,
)
from editable.editing.editors.objective import is_predicted
from editable.editing.editors.result import EditResult
from editable.editing.editors.site import EditSite
from editable.editing.linear.asked_samples import check_samples
from editable.editing.linear.linear_layer import reading
from editable.editing.linear.nonnegative import solve_nonnegative
from editable.errors import UserError, require_at_least, require_not_negative, require_positive
from editable.models import Neurons, add_neurons, evaluation_mode
from editable.models.logits import require_logits
from editable.rewriting import InverseMoment, Regularisation, SecondMoment

__all__ = ["NeuronEditor", "separating_unit"]

PARTS = ("keys.weight", "keys.bias", "values")
ENTERING = 32  # samples that become constraints at once
EXACT = 1e-9  # added to the kernel's diagonal, relative to its mean, so that it is positive definite
SOFT = 1e-2  # the same where not all constraints can be met
PARTED = 1e-3  # by how much rounding may miss a constraint


class NeuronEditor(BaseEditor):
    r"""Adds a unit v·ReLU(uᵀh + b) behind the classifier for each edit: one step, no gradients.

    T-Patcher (Huang et al., ICLR 2023) trains such a unit by four losses: the edited samples get their label, they
    activate it, and images of a memory do not, each by a margin. Here the last three are constraints of a program

    .. math:: \min_{u,b} \tfrac12 \Bigl(u^\top Σ_c u + \frac{(b + u^\top μ)^2}{c}\Bigr) \quad\text{such that}\quad
        u^\top h_i + b ≥ 1, \quad u^\top r_j + b ≤ -s

    over edited samples h and silent ones r: reference images (μ and Σ_c are their mean and centred second moment), and
    samples, of this edit and of earlier ones, that were given another label. It is a support vector machine in the
    metric of Σ_c, whose dual is solved with few active constraints; the unit varies little at what it is silent at.
    The first loss gives v = t·e_y, with the least t by which every edited sample gets the label y by the margin.

    An edit adds a unit for each of its labels. All views of an edited image share one. Taking back an edit is deleting
    its row. Where no half-space parts the samples, the unit fires at its own all the same, and a warning tells at how
    many others.

    Args:
        margin: By how much, in logits, the asked label leads all others.
        silence: s, how far below zero the unit stays at reference images, where edited samples have at least 1.
        epsilon: Added to each eigenvalue of Σ_c, relative to their mean.
        num_references: Number of images, neither edited nor judged, at which units are silent; they need no labels.

    Raises:
        UserError: If a number is out of its range; at a network without a layer of neurons.
    """

    own_layers = ("neurons",)

    def __init__(
        self, margin: float = 1.0, silence: float = 1.0, epsilon: float = 1e-2, num_references: int = 10_000
    ) -> None:
        super().__init__(1, margin)
        require_positive(margin=margin, silence=silence)
        require_not_negative(epsilon=epsilon)
        require_at_least(1, num_references=num_references)
        self.silence, self.epsilon, self.num_references = silence, epsilon, num_references
        self._place: _Place | None = None

    def furnish(self, network: nn.Module) -> nn.Module:
        """Put a layer of neurons behind the classifier, unless there is one; see :meth:`BaseEditor.furnish`."""
        there = any(isinstance(module, Neurons) for module in network.modules())
        return network if there else add_neurons(network)

    @torch.no_grad()
    def at(self, site: EditSite) -> "NeuronEditor":
        """Return the editor with the features of reference images; see :meth:`BaseEditor.at`."""
        network = site.split.network
        name, neurons = next(
            ((name, module) for name, module in network.named_modules() if isinstance(module, Neurons)), ("", None)
        )
        if neurons is None:
            raise UserError(
                f"{type(network).__name__} has no layer of neurons: furnish it first, or give it add_neurons"
            )
        if set(site.split.names) != {f"{name}.{part}" for part in PARTS}:
            raise UserError(
                f"NeuronEditor adds rows to '{name}', but the editable layers are {', '.join(site.split.names)}: name "
                "neurons alone"
            )
        with evaluation_mode(network), reading(neurons.keys) as read:
            for images, _ in site.image_batches(self.num_references):
                network(images)
        features = torch.cat(read).double()
        mean = features.mean(dim=0)
        moment = SecondMoment(len(mean))
        moment.update((features - mean).T.cpu())
        inverse = InverseMoment(moment, Regularisation(epsilon=self.epsilon))
        editor = copy.copy(self)
        place = _Place(name, neurons, features[:0], mean, inverse)
        editor._place = place._replace(references=place.whiten(features))
        return editor

    def forward(
        self,
        forward: ForwardFunction,
        params: Mapping[str, Tensor],
        inputs: Inputs,
        targets: Tensor,
        differentiable: bool = False,
    ) -> EditResult:
        """Add a unit for each label that is asked for; see :meth:`BaseEditor.forward`. It cannot be differentiated."""
        self._refuse_differentiable(differentiable)
        return self.extend(forward, params, inputs, targets, {})[0]

    @torch.no_grad()
    def extend(
        self,
        forward: ForwardFunction,
        params: Mapping[str, Tensor],
        inputs: Inputs,
        targets: Tensor,
        state: Mapping[str, Tensor],
    ) -> tuple[EditResult, dict[str, Tensor]]:
        """Make the next edit of a stream: silent at earlier samples of other labels; see :meth:`BaseEditor.extend`."""
        neurons = self._require_place().neurons
        targets = check_edit(params, inputs, targets)
        inputs = match_precision(inputs, params, differentiable=False)
        with reading(neurons.keys) as read:
            logits = forward(inputs, params)
        require_logits(logits, len(targets))
        require_classes(*label_range(targets), logits.shape[-1])
        features = read[0].double()
        check_samples(features, targets)
        whitened = self._require_place().whiten(features)
        kept, silent, asked = _joined(state, features, whitened, targets)
        edited = {name: param.detach().clone() for name, param in params.items()}
        num_steps = 0
        for label in targets.unique():
            own = targets == label
            if not is_predicted(logits[own], targets[own]).all():
                edited |= self._with_unit(edited, whitened[own], logits[own], int(label), silent[asked != label])
                logits, num_steps = forward(inputs, edited), 1
        right = is_predicted(logits, targets)
        result = EditResult(
            edited, self.objective(logits, targets), right.all(), torch.tensor(num_steps, device=targets.device)
        )
        return result, {"features": kept, "whitened": silent, "targets": asked}

    def _with_unit(
        self, params: Mapping[str, Tensor], whitened: Tensor, logits: Tensor, label: int, others: Tensor
    ) -> dict[str, Tensor]:
        """Return the layer's parameters with a unit that gives whitened samples [N, c + 1], logits [N, C], a label."""
        place = self._require_place()
        silent = place.references, others
        direction = separating_unit(whitened, silent, self.silence)
        if bool((whitened @ direction < 1 - PARTED).any()) or any((some @ direction > 0).any() for some in silent):
            direction = separating_unit(whitened, silent, self.silence, SOFT)
            direction[-1] += (1 - (whitened @ direction).amin()).clamp(min=0) / math.sqrt(len(place.mean))
            fired, lost = (int((some @ direction > 0).sum()) for some in silent)
            warnings.warn(
                f"the neuron for label {label} fires at {fired} of {len(place.references)} reference images and {lost} "
                f"of {len(others)} edited samples of other labels, as no half-space has its own samples alone",
                UserWarning,
                stacklevel=4,
            )
        activations = whitened @ direction
        others_best = logits.double().clone()
        others_best[:, label] = -torch.inf
        lag = others_best.amax(dim=1) - logits[:, label].double() + self.margin
        strength = (lag / activations).amax()
        u, b = place.unit(direction)
        value = strength * functional.one_hot(torch.tensor(label, device=logits.device), logits.shape[1])
        new = {"keys.weight": u[None], "keys.bias": b[None], "values": value[None]}
        names = {part: f"{place.name}.{part}" for part in PARTS}
        return {name: torch.cat([params[name], new[part].to(params[name])]) for part, name in names.items()}

    def _require_place(self) -> "_Place":
        if self._place is None:
            raise UserError("NeuronEditor needs reference images: call at(EditSite(…)) first")
        return self._place


class _Place(NamedTuple):
    """The layer of neurons by name, whitened references [n, c + 1], their mean [c] and inverse centred moment."""

    name: str
    neurons: Neurons
    references: Tensor
    mean: Tensor
    inverse: InverseMoment

    def whiten(self, features: Tensor) -> Tensor:
        """Return features [N, c] centred and whitened, with a constant √c behind them, [N, c + 1]."""
        whitened = self.inverse.whiten((features - self.mean).T).T
        return torch.cat([whitened, whitened.new_full((len(whitened), 1), math.sqrt(len(self.mean)))], dim=1)

    def unit(self, direction: Tensor) -> tuple[Tensor, Tensor]:
        """Return u [c] and b [] of a direction among whitened features [c + 1]."""
        u = self.inverse.whiten(direction[:-1, None]).flatten()
        return u, math.sqrt(len(self.mean)) * direction[-1] - u @ self.mean


def separating_unit(firing: Tensor, silent: Sequence[Tensor], silence: float, softness: float = EXACT) -> Tensor:
    r"""Return the shortest w with wᵀx ≥ 1 for all that fire and wᵀx ≤ −s for all that are silent.

    Samples become constraints as they are violated. It ends, with what is found so far, where more of them are active
    than there are dimensions: no w parts them then.

    Args:
        firing: float64 [P, d].
        silent: float64 [n, d], in parts, so that no copy of them all is made.
        silence: s.
        softness: Lets a constraint be missed, by as much, relative to the mean of x², times its multiplier.

    Returns:
        float64 [d].
    """
    own, bounds = firing, firing.new_ones(len(firing))
    positive = torch.ones(len(firing), dtype=torch.bool, device=firing.device)
    entered = [torch.zeros(len(part), dtype=torch.bool, device=part.device) for part in silent]
    while True:
        kernel = own @ own.T
        kernel.diagonal().add_(softness * kernel.diagonal().mean())
        multipliers = solve_nonnegative(kernel, bounds, positive)
        positive = multipliers > 0
        direction = multipliers @ own
        if int(positive.sum()) > firing.shape[1]:
            return direction
        found = [own]
        for part, known in zip(silent, entered, strict=True):
            lag = (silence + part @ direction).masked_fill_(known, -torch.inf)
            worst = lag.topk(min(ENTERING, len(lag)))
            violated = worst.indices[worst.values > 1e-6]
            known[violated] = True
            found.append(-part[violated])
        number = len(own)
        own = torch.cat(found)
        if len(own) == number:
            return direction
        bounds = torch.cat([bounds, bounds.new_full((len(own) - number,), silence)])
        positive = torch.cat([positive, positive.new_ones(len(own) - number)])


def _joined(
    state: Mapping[str, Tensor], features: Tensor, whitened: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return features, raw and whitened, and labels of all samples so far; of those that are the same, the last."""
    if not state:
        return features, whitened, targets
    stays = torch.ones(len(state["features"]), dtype=torch.bool, device=features.device)
    for own in features:
        stays &= (state["features"] != own).any(dim=1)
    news = {"features": features, "whitened": whitened, "targets": targets}
    kept, silent, asked = (torch.cat([state[name][stays], new]) for name, new in news.items())
    return kept, silent, asked
