"""A rule's exemplars as a network takes them."""

from collections.abc import Iterable
from typing import NamedTuple

from torch import Tensor

from editable.data import ImageDataModule, RewriteRule
from editable.errors import UserError

__all__ = ["RuleImages", "check_rules", "rule_images"]


class RuleImages(NamedTuple):
    """A rule's exemplars as the network takes them, normalised.

    Attributes:
        originals: Images of what the new concept shall be taken for, [n, C, H, W].
        manipulated: The same with the new concept in its place.
        textures: Images of the new concept alone.
        masks: Where it is, in [0, 1], [n, H, W].
        labels: True labels, int64 [n].
    """

    originals: Tensor
    manipulated: Tensor
    textures: Tensor
    masks: Tensor
    labels: Tensor


def check_rules(rules: Iterable[RewriteRule | None], data: ImageDataModule) -> None:
    """Raise a :class:`UserError` where the exemplars of a rule are unlike a data module's classes or images."""
    for rule in filter(None, rules):
        rule.labels(data.classes)
        size, expected = list(rule.originals.shape[1:]), list(data.image_shape)
        if size[0] != expected[0]:
            raise UserError(
                f"the rule's exemplars are {size} (channels, height, width), the data module's images {expected}: a "
                "rule is of images in colour, so give the data module a mean and std of three numbers"
            )
        if size != expected:
            raise UserError(
                f"the rule's exemplars are {size} (channels, height, width), the data module's images {expected}: "
                "give the rule the data module's image_size and resize_size"
            )


def rule_images(rule: RewriteRule, data: ImageDataModule) -> RuleImages:
    """Return a rule's exemplars as the network takes them."""
    originals, manipulated, textures = map(data.normalisation, (rule.originals, rule.manipulated, rule.textures))
    return RuleImages(originals, manipulated, textures, rule.masks, rule.labels(data.classes))
