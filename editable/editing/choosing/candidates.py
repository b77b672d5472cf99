"""What an edit chooses from where it is told neither editor nor layers: a line for each, and where each works."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from editable.editing.editors.base import BaseEditor
from editable.editing.editors.editor import Editor
from editable.editing.editors.placing import needs_place
from editable.editing.editors.strength_search import StrengthSearch
from editable.editing.linear.minimal_harm import MinimalHarmEditor
from editable.editing.linear.ridge import RidgeEditor
from editable.editing.rules.rmsprop import RMSProp
from editable.errors import UserError
from editable.models import CodebookNetwork, select_parameters
from editable.models.added.classifier import find_classifier
from editable.models.added.row_layer import prefixes_of_rows

__all__ = ["Candidate", "candidates_for", "layers_for", "places_of"]

RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)


class Candidate(NamedTuple):
    """An editor, and the layers that it may change.

    Attributes:
        editor: The editor.
        layers: Their names; none of an editor that brings a layer of its own.
    """

    editor: BaseEditor
    layers: tuple[str, ...]

    @property
    def title(self) -> str:
        """What it is called in a line."""
        return f"{_title(self.editor)} at {', '.join(self.layers)}"


class Places(NamedTuple):
    """Where editors work in a network.

    Attributes:
        classifier: Name of the linear layer that gives the logits; none where the last layer is another.
        block: Name of the block before it.
    """

    classifier: str | None
    block: str


def candidates_for(network: nn.Module, layers: str | Sequence[str] | None = None) -> list[Candidate]:
    """Return what fits a network, in an order that breaks ties: what changes least comes first.

    Closed forms change the classifier; gradients (RMSProp, as published) the block before it, at several learning
    rates, and besides only as strongly as it takes.

    Args:
        network: The network.
        layers: What alone may be changed: by gradients and, where it is the classifier, by closed forms.

    Raises:
        UserError: If nothing can be edited in it, or it has no such layer.
    """
    if layers is None:
        classifier, block = places_of(network)
        named: tuple[str, ...] = (block,)
    else:
        named = (layers,) if isinstance(layers, str) else tuple(layers)
        select_parameters(network, named)  # raises for names that match nothing
        classifier = _classifier_of(network)
        classifier = classifier if named == (classifier,) else None
    gradients = [Editor(RMSProp(rate)) for rate in RATES]
    forms = [MinimalHarmEditor(), RidgeEditor()] if classifier else []
    return [
        *(Candidate(editor, (str(classifier),)) for editor in forms),
        *(Candidate(editor, named) for editor in (*map(StrengthSearch, gradients), *gradients)),
    ]


def layers_for(editor: BaseEditor, network: nn.Module, layers: str | Sequence[str] | None = None) -> tuple[str, ...]:
    """Return the names of the layers that an editor changes in a network.

    These are the editor's own, or those given, or else the classifier for a closed form and the block before it for
    gradients.

    Raises:
        UserError: If there is no such layer, or the editor changes another one of its own.
    """
    named = None if layers is None else (layers,) if isinstance(layers, str) else tuple(layers)
    if editor.own_layers is not None:
        own = tuple(editor.own_layers)
        if named not in (None, own):
            raise UserError(
                f"{type(editor).__name__} changes a layer of its own, '{', '.join(own)}', but layers names "
                f"{', '.join(map(str, named))}: leave it out"
            )
        return own
    if named is not None:
        return named
    classifier, block = places_of(network)
    return (classifier if classifier is not None and needs_place(editor) else block,)


def places_of(network: nn.Module) -> Places:
    """Return a network's classifier, and the block before it.

    The block is the module around the last layer with a weight matrix or kernels before the classifier, or that layer
    itself where it lies at the top. What edits have put behind the classifier is neither.

    Raises:
        UserError: If there is no such layer.
    """
    classifier, weighted = _classifier_of(network), _weighted(network)
    before = weighted[: weighted.index(classifier)] if classifier in weighted else weighted
    if not before:
        raise UserError(
            f"{type(network).__name__} has no layer before its classifier that gradients could change: name the layers"
        )
    around = before[-1].rpartition(".")[0]
    inside = isinstance(network, CodebookNetwork) and around == "base"
    return Places(classifier, before[-1] if inside or not around else around)


def _classifier_of(network: nn.Module) -> str | None:
    try:
        return find_classifier(network, "an editor")[0]
    except UserError:  # it ends in another layer, or cannot be traced: its names tell
        weighted = _weighted(network)
        return weighted[-1] if weighted and isinstance(network.get_submodule(weighted[-1]), nn.Linear) else None


def _weighted(network: nn.Module) -> list[str]:
    """Return the names of the layers that have a weight matrix or kernels, without those that edits have put in."""
    memories = prefixes_of_rows(network)
    return [
        name
        for name, module in network.named_modules()
        if getattr(getattr(module, "weight", None), "ndim", 0) >= 2 and not name.startswith(memories)
    ]


@torch.no_grad()  # a rate may be learnt
def _title(editor: nn.Module) -> str:
    inner, rule = getattr(editor, "editor", None), getattr(editor, "rule", None)
    if isinstance(inner, nn.Module):
        return f"{type(editor).__name__}({_title(inner)})"
    rate = getattr(rule, "learning_rate", None)
    inside = f"({type(rule).__name__} {float(rate):g})" if rate is not None else ""
    return f"{type(editor).__name__}{inside}"
