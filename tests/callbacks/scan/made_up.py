"""Outcomes of scans that were never run, of round figures."""

from math import nan

from editable.callbacks.scan import ScanOutcome
from editable.callbacks.scan.classes import Change, ClassChange, NetworkChanges

UNDEFINED = Change(nan, nan)


def class_change(label: int, found: int, error: Change, taken: Change = UNDEFINED) -> ClassChange:
    """A class of ten images, with probabilities of 0.75 before and 0.5 after."""
    probability = Change(0.75, 0.5, 0.125) if found else UNDEFINED
    return ClassChange(label, 10, found, error, probability, probability, taken)


def network_changes(by_class: list[ClassChange]) -> NetworkChanges:
    return NetworkChanges(by_class, Change(0.125, 0.5), Change(0.75, 0.5), Change(0.75, 0.25))


def made_up(**settings) -> ScanOutcome:
    """Three classes: the first suffers little, the second much, the third has the concept nowhere."""
    by_class = [
        class_change(0, 4, Change(0.0, 0.25, 0.5), Change(0.5, 0.25, 0.25)),
        class_change(1, 2, Change(0.0, 1.0), Change(1.0, 0.0, 0.0)),
        class_change(2, 0, UNDEFINED),
    ]
    defaults = {
        "classes": ["ant", "bee", "cow"],
        "network": network_changes(by_class),
        "edited": None,
        "target": 1,
        "rank_by": "error",
        "min_found": 1,
    }
    return ScanOutcome(**{**defaults, **settings})


def made_up_edited() -> NetworkChanges:
    """What an edited network makes of the same: it takes a quarter of others' images for the second class."""
    by_class = [
        class_change(0, 4, Change(0.0, 0.0, 0.0), Change(0.0, 0.0, 0.0)),
        class_change(1, 2, Change(0.5, 0.5), Change(0.5, 0.25, 0.0)),
        class_change(2, 0, UNDEFINED),
    ]
    return network_changes(by_class)
