"""A memory of corrections: the features of what was edited, and the label each was given, by nearest key."""

import copy
import math
from collections.abc import Mapping, Sequence

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
from editable.editing.linear.linear_layer import reading, require_finite_samples, warn_of_missed
from editable.errors import UserError, require_at_least, require_not_negative, require_positive, require_within
from editable.models import Codebook, CodebookNetwork, add_codebook, evaluation_mode
from editable.models.logits import require_logits
from editable.rewriting import InverseMoment, Regularisation, SecondMoment

__all__ = ["CodebookEditor"]

SAME = 1 - 1e-5
"""Cosine from which two samples are one."""

TAIL = 20
"""Reference images nearest to a key by which it is told how rare still nearer ones are."""


class CodebookEditor(BaseEditor):
    r"""Keeps a key for each edited sample, and gives its label to whatever is near it: one step, no gradients.

    GRACE's idea (Hartvigsen et al., NeurIPS 2023) in whitened space: a :class:`~editable.models.Codebook` behind the
    logits reads what goes into some layers. The cosine of an input with the key of an edited sample is

    .. math:: c = \sum_l w_l \cos(M_l (h_l - μ_l),\, M_l (h_l' - μ_l)), \qquad M_l = (Σ_l + ε \bar λ_l I)^{-1/2}

    with mean μ_l, centred second moment Σ_l and mean eigenvalue λ̄_l of each layer over reference images. An input fires
    where c is at least the key's threshold; the nearest such key decides. A key's threshold is the least one, or higher
    where more reference images than are allowed would fire it.

    With β > 0, a key also speaks for its label, and against the one that its sample was mistaken for by the unedited
    network, to whatever is within its radius:

    .. math:: z ← z + β \left( \frac{(c - t)_+}{1 - t} \right)^p (e_{asked} - e_{mistaken})

    Samples that were right have no such part; with ``agreement``, nor have those whose label the keys of earlier edits
    do not speak for most, of all but the mistaken one: a kernel that goes by single edits spreads labels that mean
    nothing. Edits that are made together have no earlier ones among them. Whatever does not fire, and is within no
    radius, is what it was, bit for bit. The thresholds do not limit how many images are within a radius;
    :meth:`Codebook.fires` counts both. Taking back an edit is deleting its rows.

    With ``merge``, keys of one edit with equal values that are all that near to each other become their normalised
    mean, with the sum of their β, as long as each of their samples still fires and gets its label; others stay. Edits
    are not merged with each other, so that each can still be taken back. A later key of another label may come nearer
    to a sample than the merged key that stands for it.

    The defaults, and the constants of ``configs/cifar10/stream_codebook.yaml``, were chosen on the half of CIFAR-10's
    test images whose mistakes were edited, each image judged without the keys of its own edit: of the settings on a
    grid under which at least 96 % of further views get their labels, the one with the fewest wrong images, then the
    fewest broken ones. The kernel is off by default: on the other half it mends about as many images as it breaks.

    Args:
        threshold: The least cosine at which an input fires.
        firing_rate: Largest share of images, which need no labels, that one key may fire at: of the reference images,
            or, where it is less than one of them, by an exponential tail of the cosines of the nearest ones. At 0 it
            may fire at none of the reference images.
        margin: By how much a raised label leads all others, in logits.
        epsilon: Added to each eigenvalue of a layer's centred second moment, relative to their mean.
        num_references: Number of images, neither edited nor judged, for the moments and the thresholds.
        layers: The names of the layers whose input is read, maps and tokens by mean and standard deviation over
            positions; by default the classifier, which is found in a network that torch.fx can trace.
        layer_weights: w, one for each layer, which are divided by their sum; by default all alike.
        strength: β, in logits; 0 for none.
        radius: t, the cosine from which a key speaks to an input.
        power: p.
        agreement: Whether a key speaks only where those of earlier edits, within their radius, speak for its label.
        merge: The least cosine of keys that are merged; by default none are.

    Raises:
        UserError: If a number is out of its range; at a network without a codebook, or whose codebook reads other
            layers or has other settings.
    """

    own_layers = ("codebook",)

    def __init__(
        self,
        threshold: float = 0.48,
        firing_rate: float = 1e-3,
        margin: float = 1.0,
        epsilon: float = 1e-2,
        num_references: int = 10_000,
        layers: Sequence[str] | None = None,
        layer_weights: Sequence[float] | None = None,
        strength: float = 0.0,
        radius: float = 0.1,
        power: float = 1.0,
        agreement: bool = False,
        merge: float | None = None,
    ) -> None:
        super().__init__(1, margin)
        require_within("(0, 1]", threshold=threshold, merge=merge)
        require_within("[0, 1]", firing_rate=firing_rate)
        require_within("[0, 1)", radius=radius)
        require_not_negative(epsilon=epsilon, strength=strength)
        require_positive(power=power, layer_weights=layer_weights)
        require_at_least(1, num_references=num_references)
        if layer_weights is not None and len(layer_weights) != (1 if layers is None else len(layers)):
            raise UserError(
                f"layer_weights has {len(layer_weights)} numbers, but must have one for each layer of layers"
            )
        self.threshold, self.firing_rate, self.epsilon = threshold, firing_rate, epsilon
        self.num_references, self.layers, self.layer_weights = num_references, layers, layer_weights
        self.strength, self.radius, self.power, self.agreement = strength, radius, power, agreement
        self.merge = merge
        self._place: tuple[str, Codebook] | None = None  # in a tuple, for a codebook is no module of the editor
        self._references = torch.zeros(0, 0)

    def furnish(self, network: nn.Module) -> nn.Module:
        """Put a codebook behind the logits, unless there is one; see :meth:`BaseEditor.furnish`."""
        self._require_layers(network)
        there = any(isinstance(module, Codebook) for module in network.modules())
        return network if there else add_codebook(network, self.layers, self.margin)

    @torch.no_grad()
    def at(self, site: EditSite) -> "CodebookEditor":
        """Whiten the codebook's space by reference images, unless it has rows already; see :meth:`BaseEditor.at`."""
        network = site.split.network
        name, codebook = next(
            ((name, module) for name, module in network.named_modules() if isinstance(module, Codebook)), ("", None)
        )
        if codebook is None:
            raise UserError(f"{type(network).__name__} has no codebook: furnish it first, or give it add_codebook")
        self._require_layers(network)
        self._require_settings(codebook)
        with evaluation_mode(network), reading(codebook) as read:
            for images, _ in site.image_batches(self.num_references):
                network(images)
        features = torch.cat(read)
        require_finite_samples(features, "what the codebook reads of reference images")
        if len(codebook.thresholds) == 1:
            self._set_up(codebook, features)
        editor = copy.copy(self)
        editor._place, editor._references = (name, codebook), codebook.query(features)
        return editor

    @torch.no_grad()
    def forward(
        self,
        forward: ForwardFunction,
        params: Mapping[str, Tensor],
        inputs: Inputs,
        targets: Tensor,
        differentiable: bool = False,
    ) -> EditResult:
        """Add a row for each sample, unless all are right; see :meth:`BaseEditor.forward`.

        It cannot be differentiated.
        """
        self._refuse_differentiable(differentiable)
        return self._edit(forward, params, inputs, targets, keep_right=False)

    @torch.no_grad()
    def extend(
        self,
        forward: ForwardFunction,
        params: Mapping[str, Tensor],
        inputs: Inputs,
        targets: Tensor,
        state: Mapping[str, Tensor],
    ) -> tuple[EditResult, dict[str, Tensor]]:
        """Make the next edit of a stream, whose rows are its memory; see :meth:`BaseEditor.extend`.

        Samples that are right get rows too, so that no later key that is near takes them.
        """
        return self._edit(forward, params, inputs, targets, keep_right=True), {}

    def _edit(
        self, forward: ForwardFunction, params: Mapping[str, Tensor], inputs: Inputs, targets: Tensor, keep_right: bool
    ) -> EditResult:
        if self._place is None:
            raise UserError("CodebookEditor needs reference images: call at(EditSite(…)) first")
        name, codebook = self._place
        targets = check_edit(params, inputs, targets)
        inputs = match_precision(inputs, params, differentiable=False)
        with reading(codebook.match) as read:
            logits = forward(inputs, params)
        require_logits(logits, len(targets))
        require_classes(*label_range(targets), logits.shape[1])
        require_finite_samples(torch.cat([read[0], logits], dim=1), "what the codebook reads")
        edited = {name: param.detach().clone() for name, param in params.items()}
        num_steps = 0
        if keep_right or not is_predicted(logits, targets).all():
            empty = {f"{name}.{part}": params[f"{name}.{part}"][:1] for part in Codebook.rows}
            rows = self._rows(read[0], targets, forward(inputs, {**params, **empty}))
            own = {part: edited[f"{name}.{part}"] for part in Codebook.rows}
            if self.agreement:
                rows["strengths"] *= _agree(rows, own, codebook)
            stays = ~(own["match.weight"] @ read[0].T > SAME).any(dim=1)
            last = (~(read[0] @ read[0].T > SAME).triu(1).any(dim=1)).nonzero().flatten().tolist()
            groups = self._groups(rows, last)
            while True:
                new = self._merged(rows, groups)
                edited |= {
                    f"{name}.{part}": torch.cat([own[part][stays], new[part].to(own[part])]) for part in Codebook.rows
                }
                logits, num_steps = forward(inputs, edited), 1
                missed = set((~is_predicted(logits, targets)).nonzero().flatten().tolist())
                if not any(len(group) > 1 and missed.intersection(group) for group in groups):
                    break
                groups = [part for group in groups for part in (_apart(group) if missed & {*group} else [group])]
        right = is_predicted(logits, targets)
        warn_of_missed(right)
        return EditResult(
            edited,
            self.objective(logits, targets),
            right.all(),
            torch.tensor(num_steps, device=targets.device),
        )

    def _rows(self, keys: Tensor, targets: Tensor, unedited: Tensor) -> dict[str, Tensor]:
        """Return a row for each sample, by part, from its key [N, c], label [N] and the unedited logits [N, classes].

        A row's threshold is not among them: it depends on what is merged.
        """
        values = functional.one_hot(targets, unedited.shape[1])
        mistaken = unedited.argmax(dim=1)
        pushes = (mistaken != targets) & (self.strength > 0)
        values = values - functional.one_hot(mistaken, unedited.shape[1]) * pushes[:, None]
        return {"match.weight": keys, "values": values, "strengths": self.strength * pushes.to(keys)}

    def _groups(self, rows: Mapping[str, Tensor], samples: list[int]) -> list[list[int]]:
        """Return the samples by number, in groups that one key can stand for, each with the first group that it fits.

        All of a group have the same value, are near to each other, and fire at their mean.
        """
        if self.merge is None:
            return _apart(samples)
        keys, values = rows["match.weight"], rows["values"]
        groups: list[list[int]] = []
        group_of: dict[int, list[int]] = {}
        for sample in samples:
            alike = (keys @ keys[sample] >= self.merge) & (values == values[sample]).all(dim=1)
            near = set(alike.nonzero().flatten().tolist())
            candidates = {id(group): group for other, group in group_of.items() if other in near}
            fitting = (group for group in candidates.values() if near.issuperset(group))
            group = next((group for group in fitting if self._all_fire(keys[[*group, sample]])), None)
            if group is None:
                group = []
                groups.append(group)
            group.append(sample)
            group_of[sample] = group
        return groups

    def _all_fire(self, keys: Tensor) -> bool:
        """Return whether samples whose keys [n, c] are given fire at the mean of these."""
        mean = functional.normalize(keys.mean(dim=0, keepdim=True))
        return bool((keys @ mean.T >= self._thresholds(mean)).all())

    def _merged(self, rows: Mapping[str, Tensor], groups: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """Return one row for each group of samples, by part."""
        if all(len(group) == 1 for group in groups):
            chosen = [group[0] for group in groups]
            parts = {part: some[chosen] for part, some in rows.items()}
        else:
            keys = [rows["match.weight"][list(group)] for group in groups]
            means = [some if len(some) == 1 else functional.normalize(some.mean(dim=0, keepdim=True)) for some in keys]
            parts = {
                "match.weight": torch.cat(means),
                "values": rows["values"][[group[0] for group in groups]],
                "strengths": torch.stack([rows["strengths"][list(group)].sum() for group in groups]),
            }
        return {**parts, "thresholds": self._thresholds(parts["match.weight"])}

    def _thresholds(self, keys: Tensor) -> Tensor:
        """Return the least threshold at which a key [N, c] fires at no more references than are allowed, [N]."""
        number, least = len(self._references), min(self.threshold, SAME)
        allowed = int(self.firing_rate * number)
        if allowed >= number:
            return keys.new_full((len(keys),), least)
        cosines = self._references @ keys.T
        thresholds = cosines.topk(allowed + 1, dim=0).values[-1] + 1e-6
        if 0 < self.firing_rate < 1 / number and number > 1:
            thresholds = thresholds.maximum(_tail(cosines, self.firing_rate))
        return thresholds.clamp(least, SAME)

    def _require_layers(self, network: nn.Module) -> None:
        """Refuse a codebook that is there and reads other layers than are named."""
        for module in network.modules():
            if isinstance(module, CodebookNetwork) and self.layers is not None and module.layers != tuple(self.layers):
                raise UserError(
                    f"{type(network).__name__} has a codebook already, which reads {', '.join(module.layers)}, but "
                    f"layers names {', '.join(self.layers)}: name those that it reads, or none"
                )

    def _require_settings(self, codebook: Codebook) -> None:
        """Refuse settings that a codebook which is there has otherwise: its rows were made with them."""
        own = {"margin": (codebook.margin, self.margin)}
        if len(codebook.thresholds) > 1:
            if self.strength > 0 or codebook.strengths.any():
                own |= {"radius": (float(codebook.radius), self.radius), "power": (float(codebook.power), self.power)}
            if self.layer_weights is not None:
                for space, weight in zip(codebook.spaces.children(), self.layer_weights, strict=False):
                    own["layer_weights"] = (space.get_buffer("weight").item(), weight / sum(self.layer_weights))
        for name, (there, asked) in own.items():
            if not math.isclose(there, asked, rel_tol=1e-5):
                raise UserError(
                    f"the codebook that is there has a {name} of {there:.6g}, but {asked:.6g} is asked for: give "
                    "further edits what it has, or take out the edits that it holds"
                )

    def _set_up(self, codebook: Codebook, features: Tensor) -> None:
        """Whiten each layer's features, by reference images, and set weights and kernel."""
        weights = self.layer_weights or [1.0] * len(codebook.sizes)
        parts = features.double().split(codebook.sizes, dim=1)
        for index, (part, weight) in enumerate(zip(parts, weights, strict=True)):
            space = codebook.get_submodule(f"spaces.{index}")
            mean = part.mean(dim=0)
            moment = SecondMoment(len(mean))
            moment.update((part - mean).T.cpu())
            inverse = InverseMoment(moment, Regularisation(epsilon=self.epsilon))
            space.get_buffer("mean").copy_(mean)
            space.get_buffer("whitening").copy_(inverse.whiten(torch.eye(len(mean), dtype=torch.float64)))
            space.get_buffer("weight").fill_(weight / sum(weights))
        codebook.radius.fill_(self.radius)
        codebook.power.fill_(self.power)


def _tail(cosines: Tensor, rate: float) -> Tensor:
    """Return the cosine that so few images pass as none of n shows, [N], from those of n images with N keys, [n, N].

    Excesses over the (k + 1)-th largest are taken to be exponential, with the mean of the k largest.
    """
    number = min(TAIL, len(cosines) - 1)
    largest = cosines.topk(number + 1, dim=0).values
    mean = (largest[:-1] - largest[-1]).mean(dim=0)
    return largest[-1] + mean * math.log(number / (len(cosines) * rate))


def _agree(rows: Mapping[str, Tensor], earlier: Mapping[str, Tensor], codebook: Codebook) -> Tensor:
    """Return for each row whether earlier ones speak for its label most, of all but the mistaken one, bool [N]."""
    speaks = (earlier["values"] < 0).any(dim=1)
    said = (codebook.kernel(rows["match.weight"] @ earlier["match.weight"].T) * speaks) @ earlier["values"].to(
        rows["match.weight"]
    )
    asked, mistaken = rows["values"] > 0, rows["values"] < 0
    own = said.masked_fill(~asked, 0.0).sum(dim=1)
    return (own > 0) & (own >= said.masked_fill(mistaken, -torch.inf).amax(dim=1))


def _apart(samples: Sequence[int]) -> list[list[int]]:
    return [[sample] for sample in samples]
