"""A layer made ready to be rewritten by a rule: its block, its second moment, and the rule's exemplars at it."""

import copy
from collections.abc import Callable
from typing import Literal, TypeAlias

import torch
from torch import nn

from editable.callbacks.site.moment import MomentImages
from editable.callbacks.site.rule_images import RuleImages
from editable.rewriting import (
    Architecture,
    Exemplars,
    InverseMoment,
    LayerBlock,
    Regularisation,
    RewriteProblem,
    exemplars_from_features,
    exemplars_from_images,
    make_memory,
)

__all__ = ["KeysOf", "RewriteSite", "Route"]

Route: TypeAlias = Literal["images", "features"]
"""Where keys come from: manipulated images, or features of the texture put on the concept's positions."""

KeysOf: TypeAlias = Literal["rule", "exemplar"]
"""What a key is the mean of."""


class RewriteSite:
    """A layer with all that a rewrite of it by one rule needs.

    Args:
        network: The network, on the device where everything is to run.
        layer: Name of the layer.
        rule: The rule's exemplars.
        moment: The images for the second moment.
        route: Where keys come from: manipulated ``images``, or ``features`` of the texture.
        keys: One mean key for the ``rule``, or one for each ``exemplar``.
        architecture: Of the memory.
        regularisation: Of the second moment.
        progress: Called with the number of images done since the last call.

    Attributes:
        block: The layer with BatchNorm and activation.
        memory: Its weight as a memory.
    """

    def __init__(
        self,
        network: nn.Module,
        layer: str,
        rule: RuleImages,
        moment: MomentImages,
        route: Route,
        keys: KeysOf,
        architecture: Architecture,
        regularisation: Regularisation,
        progress: Callable[[int], object],
    ) -> None:
        self.block = LayerBlock(network, layer)
        device = self.block.weight.device
        self.memory = make_memory(tuple(self.block.weight.shape), self.block.geometry, architecture)
        second_moment = moment.second_moment(self.block, self.memory, architecture, progress)
        self._inverse = InverseMoment(second_moment.mean.to(device), regularisation)
        self._rule = RuleImages(*(tensor.to(device) for tensor in rule))
        self._rules = torch.arange(len(rule.labels), device=device) if keys == "exemplar" else None
        self._exemplars = self._exemplars_by(route)
        self._moment = moment

    def by_route(self, route: Route) -> "RewriteSite":
        """Return the same layer with exemplars by another route, and the same second moment."""
        site = copy.copy(self)
        site._exemplars = self._exemplars_by(route)
        return site

    def problem(self, rank: int, references: bool = False) -> RewriteProblem:
        """Return what is asked of a solver.

        Args:
            rank: Number of directions.
            references: With reference images, which have to be read.
        """
        return RewriteProblem(
            self.block,
            self.memory,
            self._exemplars,
            self._inverse,
            rank,
            self._rule.manipulated,
            self._rule.labels,
            self._moment.references if references else None,
            self._rule.originals,
        )

    def _exemplars_by(self, route: Route) -> Exemplars:
        originals, manipulated, textures, masks, _ = self._rule
        if route == "images":
            return exemplars_from_images(self.block, originals, manipulated, masks, self._rules)
        return exemplars_from_features(self.block, originals, textures, masks, self._rules)
