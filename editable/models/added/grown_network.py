"""A classifier grown by new classes: for each, something new beside a layer, and one new logit that reads only it."""

from collections.abc import Sequence
from difflib import get_close_matches

import torch
from torch import Tensor, nn

from editable.errors import UserError, require_at_least, require_choice
from editable.models.added.classifier import find_classifier
from editable.models.added.new_logit import LogitKind, NewDiscriminant, NewLogit, Pooling
from editable.models.added.tapping import run_tapped
from editable.models.weights import load_weights

__all__ = ["GrownNetwork", "grow_classes"]


class GrownNetwork(nn.Module):
    """A classifier with logits of new classes behind its own; see :func:`grow_classes`.

    The classifier runs as it did, so that its own logits are bit for bit what they were; a new logit taps what goes
    into its layer. Networks that ``torch.fx`` can trace stay traceable.

    Args:
        base: The classifier, from images [N, C, H, W] to logits [N, K].
        layers: For each new class, the name of the layer in ``base`` whose input is read.
        new_logits: As many; a discriminant's log odds are against all logits before it.

    Attributes:
        base: The classifier.
        new_logits: Of the new classes, in the order of their labels K, K + 1, …
    """

    def __init__(
        self, base: nn.Module, layers: Sequence[str], new_logits: Sequence[NewLogit | NewDiscriminant]
    ) -> None:
        super().__init__()
        self.base = base
        self.layers = tuple(layers)
        self.new_logits = nn.ModuleList(new_logits)

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits [N, K + number of new classes]."""
        taps = list(zip(self.layers, self.new_logits, strict=True))
        logits, new = run_tapped(self.base, x, taps, "the filter of a new class")
        for made, values in zip(self.new_logits, new, strict=True):
            if isinstance(made, NewDiscriminant):
                values = values + logits.logsumexp(1, True)
            logits = torch.cat([logits, values], dim=1)
        return logits


def grow_classes(
    network: nn.Module,
    layer: str | Sequence[str],
    num_new: int = 1,
    pooling: Pooling = "mean",
    weights: str | None = None,
    logit: LogitKind = "filter",
) -> GrownNetwork:
    """Grow a classifier by new classes, each with one new filter in a layer and one new logit that reads only it.

    The class-specific filter of Elango (2021, "Rewriting the Rules of a Classifier", ch. 4). The classifier's own
    logits stay bit for bit what they are. The state dict of what is returned holds the classifier's tensors under
    ``base.`` and those of the new classes under ``new_logits.0.``, ``new_logits.1.`` …; it loads into what this
    function returns for the same classifier, layer and number of new classes.

    A network that is grown already grows further; its own parameters are shared, not copied.

    Args:
        network: The classifier, from images [N, C, H, W] to logits [N, K], by its class, or by a function that makes
            one.
        layer: The name of a convolution without groups, whose input the new filters read; or one for each new class.
            Discriminants may read that of a linear layer too.
        num_new: Number of new classes.
        pooling: What a logit reads of its filter's map, the ``mean`` or the ``max`` over positions.
        weights: Weights that the network had without the new classes, a ``.safetensors`` file or a checkpoint of
            tensors.
        logit: What a new logit is made of: a ``filter``, or ``discriminant``, those of the new class and of all classes
            before it, see :class:`~editable.rewriting.ClassDiscriminant`.

    Returns:
        The grown network, with logits [N, K + num_new]; filters start at random, discriminants at zero.

    Raises:
        UserError: If a layer is unknown, no convolution, or has groups, a number is out of its range, or the weights do
            not fit; in a forward pass, if the layer is used at several places or nowhere.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AvgPool2d(6), nn.Flatten(), nn.Linear(8, 4))
        >>> grown = grow_classes(network, "0")
        >>> grown(torch.zeros(2, 3, 8, 8)).shape
        torch.Size([2, 5])
    """
    require_at_least(1, num_new=num_new)
    require_choice(Pooling, pooling=pooling)
    require_choice(LogitKind, logit=logit)
    names = [layer] * num_new if isinstance(layer, str) else list(layer)
    if len(names) != num_new:
        raise UserError(f"layer has {len(names)} names, but must be one name, or one for each of {num_new} new classes")
    if weights is not None:
        load_weights(network, weights)
    grown = network if isinstance(network, GrownNetwork) else GrownNetwork(network, (), ())
    new: list[NewLogit | NewDiscriminant] = []
    for name in names:
        if logit == "filter":
            new.append(NewLogit(_find_convolution(grown.base, name, "the filter of a new class stands"), pooling))
        else:
            num_old = find_classifier(grown.base, "a discriminant")[1].out_features + len(grown.new_logits) + len(new)
            new.append(NewDiscriminant(_find_layer(grown.base, name), num_old))
    larger = GrownNetwork(grown.base, [*grown.layers, *names], [*grown.new_logits, *new])
    larger.training = network.training
    larger.new_logits.train(network.training)
    return larger


def _find_layer(network: nn.Module, name: str) -> nn.Conv2d | nn.Linear:
    module = dict(network.named_modules()).get(name)
    if isinstance(module, nn.Linear):
        return module
    return _find_convolution(network, name, "a discriminant stands beside a linear layer, or")


def _find_convolution(network: nn.Module, name: str, what_stands: str) -> nn.Conv2d:
    module = dict(network.named_modules()).get(name)
    if not isinstance(module, nn.Conv2d) or module.groups > 1:
        what = "there is none" if module is None else f"it is a {type(module).__name__}"
        if isinstance(module, nn.Conv2d):
            what = f"it has {module.groups} groups"
        names = [other for other, part in network.named_modules() if isinstance(part, nn.Conv2d) and part.groups == 1]
        near = get_close_matches(name, names, n=5) or names[-5:]
        hint = f"such as {', '.join(near)}" if near else f"which {type(network).__name__} lacks"
        raise UserError(
            f"{what_stands} beside a convolution without groups, {hint}, but asked for was '{name}', and {what}"
        )
    return module
