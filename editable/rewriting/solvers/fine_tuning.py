"""Fine-tuning on the exemplars, of one layer or of all from it on: the baseline of a rewrite."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from editable.errors import UserError
from editable.models import SplitNetwork, evaluation_mode
from editable.rewriting.keys.problem import RewriteProblem
from editable.rewriting.solvers.base import Progress, Solution
from editable.rewriting.solvers.descent import Descent

__all__ = ["FineTuning", "parameters_from"]


class FineTuning(Descent):
    r"""Minimises the cross-entropy of the network's logits on the manipulated exemplars with their labels.

    .. math:: \min_\theta \frac1n \sum_i \operatorname{CE}(f(x_i; \theta), y_i)

    By plain gradient descent, as published (Santurkar et al. 2021; Elango 2021, 2.22). ``local`` changes the weight of
    the problem's layer alone, ``global`` all parameters from that layer on in the order in which the network calls its
    modules. BatchNorm keeps its running statistics, though ``global`` trains its scale and shift. What comes before the
    changed parameters is computed once. See :class:`Descent` for how it ends; as a cross-entropy falls without end,
    it is mostly ``max_steps`` that ends it: choose it, and the learning rate, by validation data.

    Args:
        layers: ``local`` or ``global``.
        learning_rate: Of gradient descent at the beginning, > 0.
        max_steps: Largest number of updates.
        patience: Number of updates in each of the two windows in which a plateau is looked for; none never does.
        tolerance: Relative fall of the mean loss from one window to the next that is too small to go on.
        cuts: How often the learning rate is cut to a tenth at a plateau.

    Raises:
        UserError: If an argument is out of its range; when called, if the problem has no images or labels, a label is
            no class, or the loss is no longer finite.
    """

    uses_keys = False

    def __init__(
        self,
        layers: Literal["local", "global"] = "local",
        learning_rate: float = 1e-3,
        max_steps: int = 500,
        patience: int | None = 50,
        tolerance: float = 0.01,
        cuts: int = 0,
    ) -> None:
        super().__init__(learning_rate, max_steps, patience, tolerance, cuts)
        if layers not in ("local", "global"):
            raise UserError(f"layers must be 'local' or 'global', got {layers!r}")
        self.layers = layers

    def _solve(self, problem: RewriteProblem, progress: Progress | None) -> Solution:
        images, labels = _check_exemplars(problem)
        block = problem.block
        names = [block.weight_name] if self.layers == "local" else parameters_from(block.network, block.layer, images)
        split = SplitNetwork(block.network, names)
        with torch.no_grad():
            features = split.prefix(images)
            num_classes = split.suffix(features, {}).shape[-1]
        if labels.min() < 0 or labels.max() >= num_classes:
            raise UserError(f"labels must be classes from 0 to {num_classes - 1}, got {labels.tolist()}")
        params = {name: own.detach().clone().requires_grad_() for name, own in split.params.items()}
        losses = self._descend(
            list(params.values()), lambda: cross_entropy(split.edit_suffix(features, params), labels), progress
        )
        return Solution(dict(params), losses)

    def _optimizer(self, variables: Sequence[Tensor], rate: float) -> torch.optim.Optimizer:
        return torch.optim.SGD(variables, rate)


def parameters_from(network: nn.Module, layer: str, images: Tensor) -> list[str]:
    """Return the names of the parameters of a layer and of all modules that are first called after it.

    Args:
        network: The network.
        layer: Name of the layer.
        images: Inputs of the network, of which the first is run.
    """
    calls: dict[str, int] = {}

    def note(name: str, module: nn.Module, args: tuple[Any, ...]) -> None:
        calls.setdefault(name, len(calls))

    hooks = [module.register_forward_pre_hook(partial(note, name)) for name, module in network.named_modules()]
    try:
        with torch.no_grad(), evaluation_mode(network):
            network(images[:1])
    finally:
        for hook in hooks:
            hook.remove()
    start = _call_of(layer, calls)
    return [name for name, _ in network.named_parameters() if _call_of(name, calls) >= start]


def _call_of(name: str, calls: dict[str, int]) -> int:
    """Return when the innermost module around a name was called; some are used by their parents without a call."""
    while name not in calls:
        name = name.rpartition(".")[0]
    return calls[name]


def _check_exemplars(problem: RewriteProblem) -> tuple[Tensor, Tensor]:
    images, labels = problem.images, problem.labels
    if images is None or labels is None:
        missing = "images" if images is None else "labels"
        raise UserError(f"fine-tuning needs the exemplars' images and labels, but the problem has no {missing}")
    if labels.shape != images.shape[:1] or not len(images):
        raise UserError(f"fine-tuning needs one label for each of {len(images)} images, got {list(labels.shape)}")
    if not images.isfinite().all():
        raise UserError("the exemplars' images are not finite: some pixels are NaN or infinite")
    return images.to(problem.weight.device), labels.to(problem.weight.device)
