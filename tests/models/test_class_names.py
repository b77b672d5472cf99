from types import SimpleNamespace

import pytest
from torch import nn

from editable.models import class_names_of


@pytest.mark.parametrize(
    ("id2label", "expected"),
    [
        ({1: "dog", 0: "cat"}, ["cat", "dog"]),
        ({"1": "dog", "0": "cat"}, ["cat", "dog"]),
        ({0: "LABEL_0", 1: "LABEL_1"}, None),
        ({0: "cat", 2: "dog"}, None),
        ({}, None),
        (None, None),
    ],
)
def test_names_by_label(id2label: object, expected: list[str] | None) -> None:
    network = nn.Linear(2, 2)
    assert class_names_of(network) is None
    network.config = SimpleNamespace(id2label=id2label)  # type: ignore[assignment]
    assert class_names_of(network) == expected
