"""Examples of replaced concepts are joined and taken."""

import pytest
import torch

from editable.callbacks.run.replaced_examples import ReplacedExamples


def test_examples_are_joined_and_taken_in_order():
    pictures = torch.arange(3.0)[:, None, None, None].expand(3, 3, 2, 2)
    parts = [
        ReplacedExamples(pictures[:2], pictures[:2] + 10, pictures[:2, 0] / 10, ["a", "b"]),
        ReplacedExamples(pictures[2:], pictures[2:] + 10, pictures[2:, 0] / 10, ["c"]),
    ]
    joined = ReplacedExamples.join(parts).take([2, 0])
    assert joined.names == ["c", "a"]
    assert joined.originals[:, 0, 0, 0].tolist() == [2, 0]
    assert joined.manipulated[:, 0, 0, 0].tolist() == [12, 10]
    assert joined.masks[:, 0, 0].tolist() == pytest.approx([0.2, 0])
