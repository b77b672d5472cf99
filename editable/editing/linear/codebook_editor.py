"""A memory of corrections: the features of what was edited, and the label each was given, by nearest key."""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from editable.editing.editors.base import (
    BaseEditor,
    ForwardFunction,
    Inputs,
    check_edit,
    match_precision,
    require_classes,
)
from editable.editing.editors.objective import is_predicted
from editable.editing.editors.result import EditResult
from editable.editing.editors.site import EditSite
from editable.editing.linear.linear_layer import reading, require_finite_samples, warn_of_missed
from editable.errors import UserError, require_at_least, require_not_negative, require_within
from editable.models import Codebook, add_codebook, evaluation_mode
from editable.models.logits import require_logits
from editable.rewriting import InverseMoment, Regularisation, SecondMoment

__all__ = ["CodebookEditor"]

PARTS = ("match.weight", "thresholds", "values")
SAME = 1 - 1e-5
"""Cosine from which two samples are one."""


class CodebookEditor(BaseEditor):
    r"""Keeps a key for each edited sample, and gives its label to whatever is near it: one step, no gradients.

    GRACE's idea (Hartvigsen et al., NeurIPS 2023) in whitened space: a :class:`~editable.models.Codebook` behind the
    classifier compares q(h) = M(h − μ)/‖M(h − μ)‖, M = (Σ_c + ε·mean eigenvalue·I)^{-1/2}, with the keys of edited
    samples. An input fires where its cosine with a key is at least the key's threshold; the nearest such key decides.
    Whatever does not fire is what it was, bit for bit. Taking back an edit is deleting its rows.

    A key's threshold is the least one, or higher where more reference images than are allowed would fire it.

    Args:
        threshold: The least cosine at which an input fires.
        firing_rate: Largest share of reference images, which need no labels, that one key may fire at.
        margin: By how much a raised label leads all others, in logits.
        epsilon: Added to each eigenvalue of the centred second moment, relative to their mean.
        num_references: Number of images, neither edited nor judged, for the moment and the thresholds.
        classifier: The name of the linear layer behind which the codebook goes; by default it is found, in a network
            that torch.fx can trace.

    Raises:
        UserError: If a number is out of its range; at a network without a codebook.
    """

    own_layers = ("codebook",)

    def __init__(
        self,
        threshold: float = 0.5,
        firing_rate: float = 1e-3,
        margin: float = 1.0,
        epsilon: float = 1e-2,
        num_references: int = 10_000,
        classifier: str | None = None,
    ) -> None:
        super().__init__(1, margin)
        require_within("(0, 1]", threshold=threshold)
        require_within("[0, 1]", firing_rate=firing_rate)
        require_not_negative(epsilon=epsilon)
        require_at_least(1, num_references=num_references)
        self.threshold, self.firing_rate, self.epsilon = threshold, firing_rate, epsilon
        self.num_references, self.classifier = num_references, classifier
        self._place: tuple[str, Codebook] | None = None  # in a tuple, for a codebook is no module of the editor
        self._references = torch.zeros(0, 0)

    def furnish(self, network: nn.Module) -> nn.Module:
        """Put a codebook behind the classifier, unless there is one; see :meth:`BaseEditor.furnish`."""
        there = any(isinstance(module, Codebook) for module in network.modules())
        return network if there else add_codebook(network, self.classifier, self.margin)

    @torch.no_grad()
    def at(self, site: EditSite) -> "CodebookEditor":
        """Whiten the codebook's space by reference images, unless it has rows already; see :meth:`BaseEditor.at`."""
        network = site.split.network
        name, codebook = next(
            ((name, module) for name, module in network.named_modules() if isinstance(module, Codebook)), ("", None)
        )
        if codebook is None:
            raise UserError(f"{type(network).__name__} has no codebook: furnish it first, or give it add_codebook")
        with evaluation_mode(network), reading(network.get_submodule(name.rpartition(".")[0])) as read:
            for images, _ in site.image_batches(self.num_references):
                network(images)
        features = torch.cat(read)
        require_finite_samples(features, "what the classifier reads of reference images")
        if len(codebook.thresholds) == 1:
            self._whiten(codebook, features.double())
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
        if differentiable:
            raise UserError("CodebookEditor cannot be differentiated: train with Editor and an update rule")
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
        require_classes(int(targets.min()), int(targets.max()), logits.shape[1])
        require_finite_samples(torch.cat([read[0], logits], dim=1), "what the codebook reads")
        edited = {name: param.detach().clone() for name, param in params.items()}
        num_steps = 0
        if keep_right or not is_predicted(logits, targets).all():
            edited |= self._with_rows(name, edited, read[0], functional.one_hot(targets, logits.shape[1]))
            logits, num_steps = forward(inputs, edited), 1
        right = is_predicted(logits, targets)
        warn_of_missed(right)
        return EditResult(
            edited,
            self.objective(logits, targets),
            right.all(),
            torch.tensor(num_steps, device=targets.device),
        )

    def _with_rows(self, name: str, params: Mapping[str, Tensor], keys: Tensor, values: Tensor) -> dict[str, Tensor]:
        """Return the codebook's parameters with a row for each key [N, c], behind those that stay.

        Of equal keys the last one stays: what was asked last.
        """
        last = ~(keys @ keys.T > SAME).triu(1).any(dim=1)
        keys, values = keys[last], values[last]
        own = {part: params[f"{name}.{part}"] for part in PARTS}
        stays = ~(own["match.weight"] @ keys.T > SAME).any(dim=1)
        new = {"match.weight": keys, "thresholds": self._thresholds(keys), "values": values}
        return {f"{name}.{part}": torch.cat([own[part][stays], new[part].to(own[part])]) for part in PARTS}

    def _thresholds(self, keys: Tensor) -> Tensor:
        """Return the least threshold at which a key [N, c] fires at no more references than are allowed, [N]."""
        allowed = int(self.firing_rate * len(self._references))
        least = min(self.threshold, SAME)
        if allowed >= len(self._references):
            return keys.new_full((len(keys),), least)
        cosines = self._references @ keys.T
        return (cosines.topk(allowed + 1, dim=0).values[-1] + 1e-6).clamp(least, SAME)

    def _whiten(self, codebook: Codebook, features: Tensor) -> None:
        mean = features.mean(dim=0)
        moment = SecondMoment(len(mean))
        moment.update((features - mean).T.cpu())
        inverse = InverseMoment(moment, Regularisation(epsilon=self.epsilon))
        codebook.mean.copy_(mean)
        codebook.whitening.copy_(inverse.whiten(torch.eye(len(mean), dtype=torch.float64)))
