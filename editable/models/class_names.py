"""The names that a network itself has for its classes."""

import re
from collections.abc import Mapping

from torch import nn

__all__ = ["class_names_of"]


def class_names_of(network: nn.Module) -> list[str] | None:
    """Return the class names that a network came with, in the order of its logits.

    Those of Hugging Face's classifiers are in their configuration, as ``id2label``.

    Args:
        network: The network.

    Returns:
        The names; none where it has none, or has only numbers (``LABEL_0``, …).
    """
    names = getattr(getattr(network, "config", None), "id2label", None)
    if not isinstance(names, Mapping) or not names:
        return None
    by_label = {int(label): str(name) for label, name in names.items()}
    if sorted(by_label) != list(range(len(by_label))):
        return None
    listed = [by_label[label] for label in range(len(by_label))]
    return None if all(re.fullmatch(r"LABEL_\d+", name) for name in listed) else listed
